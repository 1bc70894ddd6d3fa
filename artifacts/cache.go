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
	cost := int64(len(content)) + cacheOverhead
	if c == nil || cost > c.limit/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.items[d]; ok {
		c.order.MoveToFront(e)
		return
	}
	if clone {
		content = bytes.Clone(content)
	}
	c.items[d] = c.order.PushFront(&cached{d, content})
	c.size += cost
	for c.size > c.limit {
		last := c.order.Back()
		old := c.order.Remove(last).(*cached)
		delete(c.items, old.digest)
		c.size -= int64(len(old.content)) + cacheOverhead
	}
}

func (c *cache) drop(d Digest) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.items[d]; ok {
		c.order.Remove(e)
		delete(c.items, d)
		c.size -= int64(len(e.Value.(*cached).content)) + cacheOverhead
	}
}
