package flowtest

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

var errKilled = errors.New("the worker is dead")

// mortal is a store as one worker sees it.
type mortal struct {
	driver.Driver
	worker *process
	all    *workers
}

// lives waits until the test is over if the worker is dead.
func (d mortal) lives(ctx context.Context) error {
	if !d.worker.isDead() {
		return nil
	}
	if c := callOf(ctx); c != nil {
		d.all.idle(c)
	}
	<-d.all.over
	return errKilled
}

// Put implements driver.Driver. The worker does not die in the midst of it.
func (d mortal) Put(ctx context.Context, key string, body driver.Body, o driver.PutOptions) error {
	err := d.whole(ctx, func() error { return d.Driver.Put(ctx, key, body, o) })
	if c := callOf(ctx); err == nil && c != nil && strings.Contains(key, "/checkpoints/") {
		d.all.checkpoint(ctx, c)
	}
	return err
}

// Delete implements driver.Driver.
func (d mortal) Delete(ctx context.Context, key string) error {
	return d.whole(ctx, func() error { return d.Driver.Delete(ctx, key) })
}

func (d mortal) whole(ctx context.Context, do func() error) error {
	d.worker.mu.RLock()
	if !d.worker.dead {
		defer d.worker.mu.RUnlock()
		return do()
	}
	d.worker.mu.RUnlock()
	return d.lives(ctx)
}

// Get implements driver.Driver.
func (d mortal) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error) {
	if err := d.lives(ctx); err != nil {
		return nil, err
	}
	return d.Driver.Get(ctx, key, offset)
}

// Stat implements driver.Driver.
func (d mortal) Stat(ctx context.Context, key string) (driver.Info, error) {
	if err := d.lives(ctx); err != nil {
		return driver.Info{}, err
	}
	return d.Driver.Stat(ctx, key)
}

// List implements driver.Driver.
func (d mortal) List(ctx context.Context, prefix string) iter.Seq2[driver.Info, error] {
	if err := d.lives(ctx); err != nil {
		return func(yield func(driver.Info, error) bool) { yield(driver.Info{}, err) }
	}
	return d.Driver.List(ctx, prefix)
}

// Dirs implements driver.Driver.
func (d mortal) Dirs(ctx context.Context, prefix string) iter.Seq2[string, error] {
	if err := d.lives(ctx); err != nil {
		return func(yield func(string, error) bool) { yield("", err) }
	}
	return d.Driver.Dirs(ctx, prefix)
}
