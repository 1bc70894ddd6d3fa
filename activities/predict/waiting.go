package predict

import (
	"container/heap"
	"maps"
	"slices"
	"time"

	"github.com/stepwell-flows/stepwell/policies"
)

// waiting are the entries to be sent again, the soonest first. The zero value is empty.
type waiting struct{ all []*entry }

func (w *waiting) Len() int           { return len(w.all) }
func (w *waiting) Less(i, j int) bool { return w.all[i].ready.Before(w.all[j].ready) }
func (w *waiting) Swap(i, j int)      { w.all[i], w.all[j] = w.all[j], w.all[i] }

// Push implements heap.Interface.
func (w *waiting) Push(x any) {
	if e, ok := x.(*entry); ok {
		w.all = append(w.all, e)
	}
}

// Pop implements heap.Interface.
func (w *waiting) Pop() any {
	last := w.all[len(w.all)-1]
	w.all = w.all[:len(w.all)-1]
	return last
}

func (w *waiting) push(e *entry) { heap.Push(w, e) }

func (w *waiting) pop() *entry {
	e := w.all[0]
	heap.Pop(w)
	return e
}

// due says that the soonest may be sent now.
func (w *waiting) due(now time.Time) bool { return len(w.all) > 0 && !now.Before(w.all[0].ready) }

func sorted(m map[policies.Class]int) []policies.Class { return slices.Sorted(maps.Keys(m)) }
