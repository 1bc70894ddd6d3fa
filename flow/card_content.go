package flow

import (
	"context"
	"slices"
	"sync"
)

// CardContent collects what a step wants a card to show. It is safe for concurrent use, but what was appended must not be
// changed by the step afterwards, unless its type says that it may be: a live card is written while the step runs.
//
// The zero value is that of a test: it takes whatever is put on any card. A nil *CardContent discards everything.
type CardContent struct {
	parent *CardContent // of a card other than the default one
	// Of a parent.
	known   []string // nil takes every name
	name    string
	changed func()

	mu         sync.Mutex
	components []Component
	ids        map[string]int
	named      map[string]*CardContent
	warned     map[string]bool
}

// DefaultCard is the name of the card that [Card] belongs to, where a step has one of that name.
const DefaultCard = "default"

// NewCardContent returns the content of a step's cards, which have these names. It is that of the card "default", or of the
// first one if none has that name; [CardContent.Named] returns the others. Changed is called by [CardContent.Refresh] and must
// not block; nil is harmless.
func NewCardContent(changed func(), cards ...string) *CardContent {
	c := &CardContent{known: append([]string{}, cards...), name: DefaultCard, changed: changed}
	if len(cards) > 0 && !slices.Contains(cards, DefaultCard) {
		c.name = cards[0]
	}
	return c
}

// Card returns what the running task's card will show. If the step has several cards it is the one named "default", or the
// first if none is; [CardNamed] returns the others. Outside of a run what is appended is discarded. Each attempt starts with
// an empty one.
func Card(ctx context.Context) *CardContent { return from(ctx).Card }

// CardNamed returns what the running task's card of that name will show. If the step has no such card, what is appended is
// discarded and the log says so, once: a report never fails a task.
func CardNamed(ctx context.Context, name string) *CardContent {
	c := Card(ctx)
	if c == nil {
		return nil
	}
	named := c.Named(name)
	if named == nil && c.warn(name) {
		Log(ctx).Warn("the step has no card of that name and what is put on it is discarded (give the step one, such as cards.New)",
			"card", name, "cards", c.known)
	}
	return named
}

// Named returns the content of the step's card of that name, nil if the step has none.
func (c *CardContent) Named(name string) *CardContent {
	if c == nil {
		return nil
	}
	if c.parent != nil {
		c = c.parent
	}
	if name == c.name || c.name == "" && name == DefaultCard {
		return c
	}
	if c.known != nil && !slices.Contains(c.known, name) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.named[name] == nil {
		if c.named == nil {
			c.named = map[string]*CardContent{}
		}
		c.named[name] = &CardContent{parent: c}
	}
	return c.named[name]
}

// warn says that nobody was told of that name before.
func (c *CardContent) warn(name string) bool {
	if c.parent != nil {
		c = c.parent
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.warned[name] || len(c.warned) > 20 {
		return false
	}
	if c.warned == nil {
		c.warned = map[string]bool{}
	}
	c.warned[name] = true
	return true
}

// Append adds components at the end.
func (c *CardContent) Append(components ...Component) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.components = append(c.components, components...)
}

// Put adds a component at the end, or replaces the one that was put with this id before, in its place.
func (c *CardContent) Put(id string, component Component) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i, ok := c.ids[id]; ok {
		c.components[i] = component
		return
	}
	if c.ids == nil {
		c.ids = map[string]int{}
	}
	c.ids[id] = len(c.components)
	c.components = append(c.components, component)
}

// Clear takes everything off this card.
func (c *CardContent) Clear() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.components, c.ids = nil, nil
}

// Refresh says that the step's cards have changed and may be shown now, while the step runs. It returns at once and costs
// next to nothing, so it may be called in a loop: the worker writes the cards in the background, for the first time a second
// after the first call and then every five seconds at most. A card is written when its task ends without this.
func (c *CardContent) Refresh() {
	if c == nil {
		return
	}
	if c.parent != nil {
		c = c.parent
	}
	if c.changed != nil {
		c.changed()
	}
}

// Components returns what was appended so far.
func (c *CardContent) Components() []Component {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Component(nil), c.components...)
}
