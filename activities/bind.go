package activities

import (
	"context"
	"sync"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
)

// maxLists bounds the lists of items whose places a worker keeps: a hundred bytes for every thousand items.
const maxLists = 64

// listCache keeps where the items of lists are, so that reading one item does not cost more the longer its list is.
// When it is full, it forgets the list that came first.
type listCache struct {
	mu    sync.Mutex
	lists map[artifacts.Digest]*flow.Items
	order []artifacts.Digest
}

func (a *Activities) items(ctx context.Context, l flow.List) (*flow.Items, error) {
	c := &a.lists
	c.mu.Lock()
	it := c.lists[l.Digest]
	c.mu.Unlock()
	if it != nil && it.Len() == l.Len {
		return it, nil
	}
	it, err := flow.OpenItems(ctx, a.store, l)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lists == nil {
		c.lists = map[artifacts.Digest]*flow.Items{}
	}
	if _, ok := c.lists[l.Digest]; !ok {
		if len(c.order) == maxLists {
			delete(c.lists, c.order[0])
			c.order = c.order[1:]
		}
		c.order = append(c.order, l.Digest)
	}
	c.lists[l.Digest] = it
	return it, nil
}

func (a *Activities) bind(ctx context.Context, f *flow.Flow, b flow.Binding, state any) error {
	items, err := a.items(ctx, b.List)
	if err != nil {
		return err
	}
	return f.Bind(ctx, items, b.Foreach, b.Item, state)
}
