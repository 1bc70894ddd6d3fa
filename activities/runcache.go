package activities

import (
	"sync"

	"github.com/stepwell-flows/stepwell/records"
)

// maxCachedRuns bounds the run documents that a worker keeps. They hold the plan, tens of kilobytes at most.
const maxCachedRuns = 256

// runCache keeps the documents of the runs that this worker works for. They never change.
// When it is full, it forgets the run that came first.
type runCache struct {
	mu    sync.Mutex
	runs  map[string]records.Run
	order []string
}

func (c *runCache) get(flowName, run string) (records.Run, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.runs[flowName+"/"+run]
	return r, ok
}

func (c *runCache) put(r records.Run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := r.Flow + "/" + r.Run
	if c.runs == nil {
		c.runs = map[string]records.Run{}
	}
	if _, ok := c.runs[key]; ok {
		return
	}
	if len(c.order) == maxCachedRuns {
		delete(c.runs, c.order[0])
		c.order = c.order[1:]
	}
	c.runs[key] = r
	c.order = append(c.order, key)
}
