package activities

import "sync"

// lately keeps documents that never change, up to a number of them: when it is full, it forgets the one that came first. It is safe
// for concurrent use; make one with newLately.
type lately[K comparable, V any] struct {
	most  int
	mu    sync.Mutex
	known map[K]V
	order []K
}

func newLately[K comparable, V any](most int) *lately[K, V] {
	return &lately[K, V]{most: most, known: map[K]V{}}
}

// get returns what belongs to a key, or what load returns, which is kept unless it is an error.
func (c *lately[K, V]) get(key K, load func() (V, error)) (V, error) {
	c.mu.Lock()
	v, ok := c.known[key]
	c.mu.Unlock()
	if ok {
		return v, nil
	}
	v, err := load() // by several at the same time, if they come together
	if err != nil {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.known[key]; ok {
		return v, nil
	}
	if len(c.order) == c.most {
		delete(c.known, c.order[0])
		c.order = c.order[1:]
	}
	c.known[key] = v
	c.order = append(c.order, key)
	return v, nil
}
