package artifacts

import (
	"context"
	"sync"
)

// Loader loads many states that have much in common: content that they share with the state they come from is read and verified
// once. It is safe for concurrent use. [Schema.Loader] makes one.
type Loader struct {
	schema *Schema
	store  *Store
	base   map[string]Entry
	shared []sharedContent // of the base, by field
}

// sharedContent is the content of one artifact, once somebody has asked for it.
type sharedContent struct {
	mu      sync.Mutex
	content []byte
	read    bool
}

// Loader returns a Loader of states that come from the one with the entries base. It keeps the content of base in memory, as far as
// states have it, and nothing else.
func (s *Schema) Loader(store *Store, base map[string]Entry) *Loader {
	return &Loader{schema: s, store: store, base: base, shared: make([]sharedContent, len(s.fields))}
}

// Load is [Schema.Load].
func (l *Loader) Load(ctx context.Context, entries map[string]Entry, state any) error {
	return l.schema.load(l.store, entries, state, func(i int, e Entry) ([]byte, error) {
		if !l.isShared(i, e) {
			return l.store.Content(ctx, e)
		}
		c := &l.shared[i]
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.read {
			return c.content, nil
		}
		content, err := l.store.Content(ctx, e)
		if err == nil {
			c.content, c.read = content, true
		}
		return content, err
	})
}

func (l *Loader) isShared(i int, e Entry) bool {
	base, ok := l.base[l.schema.fields[i].Name]
	return ok && base.Same(e)
}

// Remote is how many bytes Load has to read from the store for these entries, apart from what all states share.
func (l *Loader) Remote(entries map[string]Entry) int64 {
	var n int64
	for i := range l.schema.fields {
		f := &l.schema.fields[i]
		if e, ok := entries[f.Name]; ok && !f.Lazy() && e.remote() && !l.isShared(i, e) {
			n += e.Size
		}
	}
	return n
}
