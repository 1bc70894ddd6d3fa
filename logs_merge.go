package stepwell

import (
	"container/heap"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/runs"
)

// keepLogs is how much of the logs that are merged is kept in memory before its turn, in bytes as stored. The others are read
// again when it is their turn: only as many tasks as ran at the same time have theirs at the same time.
const keepLogs = 16 << 20

// logCursor goes through the lines of one log.
type logCursor struct {
	file   runs.LogFile
	i      int // among the logs that are merged
	lines  []logLine
	first  time.Time
	unread bool // there are lines, which were let go
	next   int64
	before logLine
}

// read reads the log from its beginning. One that is gone by now has no lines.
func (c *logCursor) read(ctx context.Context, f logFilter) error {
	b, next, err := c.file.ReadFrom(ctx, 0)
	if err != nil && !errors.Is(err, artifacts.ErrNotFound) {
		return err
	}
	c.next, c.unread, c.before = next, false, logLine{}
	c.lines = f.parseLines(c.file, b, &c.before)
	// What comes from another process, or from many goroutines, need not be in order.
	slices.SortStableFunc(c.lines, byTime)
	if len(c.lines) > 0 {
		c.first = c.lines[0].entry.time
	}
	return nil
}

func byTime(a, b logLine) int { return a.entry.time.Compare(b.entry.time) }

// merge prints the lines of logs in the order of time. It tells read about each log that it has read, if that is not nil.
func (l *logReader) merge(ctx context.Context, files []runs.LogFile, read func(*logCursor)) error {
	cursors := make([]*logCursor, len(files))
	var kept atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i, f := range files {
		cursors[i] = &logCursor{file: f, i: i}
		g.Go(func() error {
			c := cursors[i]
			if err := c.read(gctx, l.filter); err != nil {
				return err
			}
			if len(c.lines) > 0 && kept.Add(c.next) > keepLogs {
				kept.Add(-c.next)
				c.lines, c.unread = nil, true
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if read != nil {
		for _, c := range cursors {
			read(c)
		}
	}
	queue := slices.DeleteFunc(cursors, func(c *logCursor) bool { return len(c.lines) == 0 && !c.unread })
	return l.drain(ctx, queue)
}

// drain prints the lines of cursors.
func (l *logReader) drain(ctx context.Context, cursors []*logCursor) error {
	q := logQueue(cursors)
	heap.Init(&q)
	for len(q) > 0 {
		c := q[0]
		if c.unread {
			if err := c.read(ctx, l.filter); err != nil {
				return err
			}
		}
		if len(c.lines) > 0 {
			if err := l.out.line(c.lines[0]); err != nil {
				return err
			}
			c.lines = c.lines[1:]
		}
		if len(c.lines) == 0 {
			heap.Pop(&q)
			if l.out.broken() {
				return nil
			}
			continue
		}
		c.first = c.lines[0].entry.time
		heap.Fix(&q, 0)
	}
	return nil
}

// logQueue has the cursor with the earliest line first.
type logQueue []*logCursor

func (q logQueue) Len() int { return len(q) }
func (q logQueue) Less(a, b int) bool {
	if c := q[a].first.Compare(q[b].first); c != 0 {
		return c < 0
	}
	return q[a].i < q[b].i
}
func (q logQueue) Swap(a, b int) { q[a], q[b] = q[b], q[a] }

// Push implements heap.Interface.
func (q *logQueue) Push(x any) { *q = append(*q, x.(*logCursor)) } // nothing else is pushed

// Pop implements heap.Interface.
func (q *logQueue) Pop() any {
	last := len(*q) - 1
	c := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return c
}
