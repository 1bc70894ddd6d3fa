package flowtest

import (
	"maps"
	"sync"
)

// Ledger counts side effects by key, for steps and fakes in tests. The zero value is ready. It is safe for concurrent use.
//
// A fake service that answers a request with a known idempotency key without acting again adds to the ledger only when it acts;
// a fake that knows no keys adds whenever it is called, and [EveryCrash] shows what that leads to.
type Ledger struct {
	mu     sync.Mutex
	counts map[string]int
}

// Add notes that the side effect with that key happened.
func (l *Ledger) Add(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(key)
}

// Once notes that the side effect with that key happens, unless it did before. It says whether to act.
func (l *Ledger) Once(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts[key] > 0 {
		return false
	}
	l.add(key)
	return true
}

func (l *Ledger) add(key string) {
	if l.counts == nil {
		l.counts = map[string]int{}
	}
	l.counts[key]++
}

// Counts returns how often each side effect happened.
func (l *Ledger) Counts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.counts)
}

// Reset forgets everything.
func (l *Ledger) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts = nil
}
