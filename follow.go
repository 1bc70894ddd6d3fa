package stepwell

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

const (
	// lookEvery is how often a followed run is looked at while something happens, lookSeldom when nothing does.
	lookEvery  = 200 * time.Millisecond
	lookSeldom = time.Second
	// drawEvery is how often elapsed times and countdowns are redrawn.
	drawEvery = 100 * time.Millisecond
	// manyLines is how many lines that steps logged are shown of one look. A million items may log a lot.
	manyLines = 200
)

// watching is how a run is followed.
type watching struct {
	// own says that this process is the run's worker, so the run stops with it.
	own bool
	// tail shows the logs that the store has got, because the worker is another process, or may be.
	tail bool
}

// follower shows a run on the terminal until it ends.
type follower struct {
	*command
	session *session
	run     *runs.Run
	watching
	to    *stream
	watch *watch

	mu    sync.Mutex
	steps []watched // as of the last look
}

// follow shows a run's progress until it ends, and how it ended. The run's end is waited for at the server, so that
// looking now and then does not delay it. The exit code tells the run's end.
func (c *command) follow(ctx context.Context, s *session, run *runs.Run, w watching) error {
	f := &follower{command: c, session: s, run: run, watching: w, to: c.progress(), watch: newWatch(run, s.store, w.tail)}
	f.header()
	ended, err := f.wait(ctx)
	c.term.leave()
	switch {
	case ctx.Err() != nil:
		f.interrupted()
		return &exitError{ExitInterrupted}
	case err != nil:
		return err
	}
	f.summary(ctx, ended)
	if c.set.json {
		doc, err := documentRun(ctx, ended, s.store)
		if err != nil {
			return err
		}
		if err := c.printJSON(doc); err != nil {
			return err
		}
	}
	return exitOf(ended.Status)
}

// progress is where a followed run is shown. With --json, standard output is for the document alone.
func (c *command) progress() *stream {
	if c.set.json {
		return &c.term.err
	}
	return &c.term.out
}

// exitOf is the end of the program that a run's end means.
func exitOf(status records.Status) error {
	switch status {
	case records.StatusCompleted:
		return nil
	case records.StatusCancelled:
		return &exitError{ExitCancelled}
	default:
		return &exitError{ExitFailed}
	}
}

func (f *follower) header() {
	line := "run " + f.to.style.bold(clean(f.run.Pathspec()))
	if f.run.Origin != "" {
		line += ", resumed from " + clean(f.run.Origin)
	}
	fmt.Fprintln(f.to, line)
	webUI := f.session.webUI
	if webUI == "" {
		webUI, _ = f.webUIAddress("") // what cannot be linked to is not
	}
	if u := runURL(webUI, f.session.namespace, f.run); u != "" {
		fmt.Fprintln(f.to, f.to.style.faint(u))
	}
}

// wait shows what happens until the run ended or ctx did.
func (f *follower) wait(ctx context.Context) (*runs.Run, error) {
	looking, stop := context.WithCancel(ctx)
	waiting, hurry := context.WithCancel(ctx)
	defer hurry()
	var others sync.WaitGroup
	others.Go(func() {
		changed := time.Now()
		for looking.Err() == nil {
			if f.look(looking) {
				changed = time.Now()
			}
			if !f.watch.run.Ended.IsZero() {
				// The server should say so at once. One that was restarted may keep the wait for 20 s.
				time.AfterFunc(time.Second, hurry)
				return
			}
			select {
			case <-looking.Done():
			case <-time.After(min(max(time.Since(changed)/20, lookEvery), lookSeldom)):
			}
		}
	})
	if f.to.screen {
		others.Go(func() {
			for looking.Err() == nil {
				f.draw()
				select {
				case <-looking.Done():
				case <-time.After(drawEvery):
				}
			}
		})
	}
	run, err := f.session.client.Wait(waiting, f.run.Flow, f.run.Run.Run)
	if waiting.Err() != nil && ctx.Err() == nil {
		run, err = f.session.client.Runs().Run(ctx, f.run.Flow, f.run.Run.Run)
	}
	stop()
	others.Wait()
	f.look(ctx)
	f.draw()
	return run, err
}

// look looks at the run once and shows what happened. It reports whether anything did.
func (f *follower) look(ctx context.Context) bool {
	lines := f.lines.take() // before the look, which so sees everything that happened before them
	// Whether a look that failed means the end, Wait tells. What it saw until then is shown.
	events, _ := f.watch.look(ctx)
	f.mu.Lock()
	f.steps = slices.Clone(f.watch.steps)
	f.mu.Unlock()
	for i, e := range lines {
		if i == manyLines {
			rest := logEntry{time: e.time, level: "INFO", message: many(len(lines)-i, "more line") + " are kept, see: " + f.hint("logs", f.run.Pathspec())}
			events = append(events, event{at: e.time, kind: eventLog, log: rest})
			break
		}
		events = append(events, event{at: e.time, kind: eventLog, log: e})
	}
	slices.SortStableFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
	var text strings.Builder
	for _, e := range events {
		if f.to.screen && !e.above() {
			continue // the block shows it
		}
		if line := e.line(f.to.style); line != "" {
			text.WriteString(line + "\n")
		}
	}
	if text.Len() > 0 {
		fmt.Fprint(f.to, text.String())
	}
	return len(events) > 0
}

func (f *follower) draw() {
	if !f.to.screen {
		return
	}
	f.mu.Lock()
	steps := f.steps
	f.mu.Unlock()
	width, height := f.to.size()
	f.to.draw(block(steps, time.Now(), f.to.style, width, height))
}

// interrupted says what becomes of the run.
func (f *follower) interrupted() {
	attach := f.hint("attach", f.run.Pathspec())
	if f.own || f.session.dev != nil && !f.session.dev.Shared { // the worker or the server ends with this process
		fmt.Fprintf(f.to, "interrupted; what is finished is kept, carry on with: %s\n", attach)
		return
	}
	fmt.Fprintf(f.to, "the run goes on; follow it with: %s\n", attach)
}

// summary tells how the run ended and what can be done with it.
func (f *follower) summary(ctx context.Context, run *runs.Run) {
	s := f.to.style
	line := clean(run.Pathspec()) + " " + s.status(run.Status)
	if d := run.Duration(); d > 0 {
		line += " in " + briefly(d)
	}
	fmt.Fprintln(f.to, s.bold(line))
	t := newTable(f.to)
	t.indent = "  "
	if run.Failure != nil {
		if run.Failure.Task != "" {
			t.row("failed", fmt.Sprintf("%s: %s%s", named(clean(run.Failure.Task)), failureText(run.Failure), othersText(run.Failure)))
		} else {
			t.row("failed", failureText(run.Failure))
		}
		t.row("why", f.hint("why", run.Pathspec()))
	}
	for _, s := range f.watch.steps {
		if s.fan != nil && s.fan.failed > 0 && s.state == runs.Completed {
			t.row("tolerated", fmt.Sprintf("%s: %s of %s failed, see: %s", clean(s.task()), grouped(s.fan.failed), many(s.fan.items, "item"), f.hint("why", run.Pathspec()+"/"+s.name)))
		}
	}
	if run.Status != records.StatusCompleted {
		t.row("resume with", f.hint("resume", run.Pathspec()))
	}
	t.row("artifacts", f.session.store.String())
	for _, card := range f.cards(ctx, run) {
		t.row("card", card)
	}
	t.flush()
}

// maxCards bounds how many cards the summary names.
const maxCards = 5

// cards says where the run's cards are: the file of a store that is a directory, else the command that gets it.
func (f *follower) cards(ctx context.Context, run *runs.Run) []string {
	var out []string
	for _, name := range run.Plan.Steps() {
		if n, ok := run.Plan.Step(name); !ok || len(n.Cards) == 0 || run.Owner(name) != run.Run.Run {
			continue
		}
		step, err := run.Step(ctx, name)
		if err != nil {
			return out
		}
		looked := 0
		for t, err := range step.Tasks(ctx) {
			if looked++; err != nil || looked > maxCards {
				break
			}
			names, err := t.Cards(ctx)
			if err != nil || len(out)+len(names) > maxCards {
				return out
			}
			for _, card := range names {
				if path := cardFile(f.session.store, t, card); path != "" {
					out = append(out, path)
				} else if len(names) == 1 {
					out = append(out, f.hint("card", t.Pathspec()))
				} else {
					out = append(out, f.hint("card", t.Pathspec(), card))
				}
			}
		}
	}
	return out
}

// cardFile is the file of a card in a store that is a directory, "" in another.
func cardFile(store *artifacts.Store, t *runs.Task, card string) string {
	root := store.String()
	if !filepath.IsAbs(root) {
		return ""
	}
	p, err := runs.ParsePathspec(t.Pathspec())
	if err != nil {
		return ""
	}
	path := filepath.Join(root, filepath.FromSlash(records.CardKey(p.Flow, t.Owner, t.Step, t.Index, card)))
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// lineQueue keeps what the steps of this process logged until the next look, which puts it in order with what happened.
type lineQueue struct {
	mu    sync.Mutex
	lines []logEntry
}

func (q *lineQueue) add(e logEntry) {
	if e.routine() {
		return
	}
	e.run = ""
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lines = append(q.lines, e)
}

func (q *lineQueue) take() []logEntry {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines := q.lines
	q.lines = nil
	return lines
}
