// Package readahead reads things before their turn: a store far away may take its time for each.
package readahead

import (
	"context"
	"iter"

	"golang.org/x/sync/errgroup"
)

// InOrder yields what read returns for 0 to n-1, in order, and calls it for up to width of them at the same time, before their turn.
// After an error it ends. When the loop ends before, the context of the calls that are under way is cancelled and they are waited for.
func InOrder[T any](ctx context.Context, width, n int, read func(context.Context, int) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		type result struct {
			v   T
			err error
		}
		width := min(width, n)
		slots := make([]chan result, width) // of i, i+width, … in turn
		for i := range slots {
			slots[i] = make(chan result, 1)
		}
		var group errgroup.Group
		defer func() { _ = group.Wait() }()
		defer cancel()
		start := func(i int) {
			group.Go(func() error {
				v, err := read(ctx, i)
				slots[i%width] <- result{v, err}
				return nil
			})
		}
		for i := range width {
			start(i)
		}
		for i := range n {
			r := <-slots[i%width]
			if next := i + width; next < n && r.err == nil {
				start(next)
			}
			if !yield(r.v, r.err) || r.err != nil {
				return
			}
		}
	}
}
