package stepwell

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

const (
	// followEvery is how often logs that grow are looked at.
	followEvery = time.Second
	// holdLines is how long lines of many tasks are held back, so that those of another task which are a little older, but arrive a
	// little later, come first: a worker writes a log every 3 s.
	holdLines = 4 * time.Second
	// hotLog is how long a log that has not grown is looked at by itself. After that, it is seen when all are listed.
	hotLog = 30 * time.Second
	// listShare bounds the part of the time that goes into listing all logs: one in so many.
	listShare = 20
	// askOver is how often it is asked whether the run has ended.
	askOver = 2 * time.Second
)

// followed is a log that may grow.
type followed struct {
	cursor logCursor
	grew   time.Time
}

// heldLine is a line that waits until those before it have arrived.
type heldLine struct {
	logLine
	seen time.Time
}

// logFollower prints lines as they come.
type logFollower struct {
	*logReader
	logs   map[string]*followed
	held   []heldLine
	listed time.Time     // when the logs were listed, and
	took   time.Duration // how long it took
}

// follow prints what there is, and then what comes, until the run ends, or the task.
func (l *logReader) follow(ctx context.Context) error {
	f := &logFollower{logReader: l, logs: map[string]*followed{}}
	began := time.Now()
	err := l.each(func(group []string) error {
		read, rest, err := l.files(ctx, group, 0)
		if err != nil {
			return err
		}
		for _, file := range rest { // too many; what they log from now on is of interest
			f.logs[file.Key] = &followed{cursor: logCursor{file: file, next: file.Size}}
		}
		return l.merge(ctx, read, func(c *logCursor) {
			f.logs[c.file.Key] = &followed{cursor: logCursor{file: c.file, next: c.next, before: c.before}, grew: began}
		})
	})
	if err != nil {
		return err
	}
	f.listed, f.took = time.Now(), time.Since(began)
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	var asked time.Time
	for !l.out.broken() {
		over := false
		if now := time.Now(); now.Sub(asked) >= askOver {
			asked = now
			if over, err = f.over(ctx); err != nil {
				return f.end(err)
			}
		}
		if err := f.look(ctx, over); err != nil {
			return f.end(err)
		}
		if over {
			return f.end(nil)
		}
		if err := f.release(time.Now()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return f.end(ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// end prints what is held back still.
func (f *logFollower) end(err error) error {
	for i := range f.held {
		f.held[i].seen = time.Time{}
	}
	return errors.Join(f.release(time.Now()), err)
}

// over asks whether more can come.
func (f *logFollower) over(ctx context.Context) (bool, error) {
	if err := f.run.Refresh(ctx); err != nil {
		return false, err
	}
	if f.run.Status != records.StatusRunning && f.run.Status != runs.Unknown {
		return true, nil
	}
	if f.one == nil {
		return false, nil
	}
	t, err := f.run.Task(ctx, f.one.Name())
	if err != nil {
		return false, err
	}
	switch t.State {
	case runs.Completed, runs.Caught, runs.Failed, runs.Cancelled, runs.Skipped:
		return true, nil
	default:
		return false, nil
	}
}

// look reads what logs have grown by. It looks at those that grew of late, and from time to time, or when all is wanted, at all.
func (f *logFollower) look(ctx context.Context, all bool) error {
	now := time.Now()
	var grown []*followed
	if all || now.Sub(f.listed) >= max(followEvery, listShare*f.took) {
		err := f.each(func(group []string) error {
			read, rest, err := f.files(ctx, group, 0)
			for _, file := range append(read, rest...) {
				l := f.logs[file.Key]
				if l == nil {
					l = &followed{cursor: logCursor{file: file}}
					f.logs[file.Key] = l
				}
				if l.cursor.file.Size = file.Size; file.Size != l.cursor.next {
					grown = append(grown, l)
				}
			}
			return err
		})
		if err != nil {
			return err
		}
		f.listed, f.took = now, time.Since(now)
	} else {
		for _, l := range f.logs {
			if now.Sub(l.grew) >= hotLog {
				continue
			}
			size, err := l.cursor.file.Length(ctx)
			if err != nil {
				return err
			}
			if size != l.cursor.next {
				grown = append(grown, l)
			}
		}
	}
	return f.read(ctx, grown, now)
}

// read takes the new lines of logs.
func (f *logFollower) read(ctx context.Context, grown []*followed, now time.Time) error {
	lines := make([][]logLine, len(grown))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i, l := range grown {
		g.Go(func() error {
			c := &l.cursor
			b, next, err := c.file.ReadFrom(ctx, c.next)
			if errors.Is(err, artifacts.ErrNotFound) {
				return nil
			}
			if next != c.next {
				c.next, l.grew = next, now
			}
			lines[i] = f.filter.parseLines(c.file, b, &c.before)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, some := range lines {
		for _, line := range some {
			f.held = append(f.held, heldLine{line, now})
		}
	}
	return nil
}

// release prints the lines that nothing can come before any more. Lines of one task come in order.
func (f *logFollower) release(now time.Time) error {
	slices.SortStableFunc(f.held, func(a, b heldLine) int { return byTime(a.logLine, b.logLine) })
	n := len(f.held)
	if f.one == nil {
		for n > 0 && now.Sub(f.held[n-1].seen) < holdLines && now.Sub(f.held[n-1].entry.time) < holdLines {
			n--
		}
	}
	for _, line := range f.held[:n] {
		if err := f.out.line(line.logLine); err != nil {
			return err
		}
	}
	f.held = slices.Delete(f.held, 0, n)
	_ = f.out.w.Flush()
	return nil
}
