package activities

import (
	"context"

	"github.com/stepwell-flows/stepwell/flow"
)

// bind puts an item into a state.
func (a *Activities) bind(ctx context.Context, f *flow.Flow, b flow.Binding, state any) error {
	items, err := flow.OpenItems(ctx, a.store, b.List)
	if err != nil {
		return err
	}
	return f.Bind(ctx, items, b.Foreach, b.Item, state)
}
