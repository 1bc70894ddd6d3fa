package artifacts

import (
	"bytes"
	"container/list"
	"sync"
)

// cache keeps recently used blobs by their digest, which makes it always coherent. It is safe for concurrent use; nil keeps nothing.
type cache struct {
	limit int64

	mu    sync.Mutex
	size  int64
	order *list.List // of *cached, the most recently used first
	items map[Digest]*list.Element
}

type cached struct {
	digest  Digest
	content []byte
	cost    int64
}

// cacheOverhead is about what an item takes beside its content.
const cacheOverhead = 200

func newCache(limit int64) *cache {
	if limit <= 0 {
		return nil
	}
	return &cache{limit: limit, order: list.New(), items: map[Digest]*list.Element{}}
}

func (c *cache) get(d Digest) ([]byte, bool) {
	if c == nil {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[d]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).content, true
}

// put keeps content, or a copy of it, unless it would take more than a quarter of the cache.
func (c *cache) put(d Digest, content []byte, clone bool) {
	if c == nil || int64(len(content))+cacheOverhead > c.limit/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.items[d]; ok {
		c.order.MoveToFront(e)
		return
	}
	if clone || cap(content) > 2*len(content) { // what is kept must not be much larger than what is counted
		content = bytes.Clone(content)
	}
	item := &cached{d, content, int64(cap(content)) + cacheOverhead}
	c.items[d] = c.order.PushFront(item)
	for c.size += item.cost; c.size > c.limit; {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(e *list.Element) {
	old := c.order.Remove(e).(*cached)
	delete(c.items, old.digest)
	c.size -= old.cost
}

func (c *cache) drop(d Digest) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.items[d]; ok {
		c.remove(e)
	}
}
