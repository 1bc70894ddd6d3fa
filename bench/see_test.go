package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

const (
	seeRuns   = 5000
	seeItems  = 10_000
	seeRounds = 9
	seePage   = time.Second
	seeFirst  = 300 * time.Millisecond
)

// BenchmarkSee measures how soon people see something of a directory with many runs, one of them with many tasks: the pages that
// "starter ui" answers with, and the first byte that a verb prints, counted from the start of its process.
func BenchmarkSee(b *testing.B) {
	dir := b.TempDir()
	starter := build(b, dir, "starter")
	location := filepath.Join(dir, "store")
	oldest, run := seeStore(b, location)
	look := &looker{B: b, program: starter, dir: dir, store: location}

	b.Run("Pages", func(b *testing.B) { seePages(look.with(b), oldest, run) })
	b.Run("Print", func(b *testing.B) { seePrint(look.with(b)) })
}

func seePages(look *looker, oldest, run string) {
	base, stop := look.serve()
	defer stop()
	pages := []struct {
		name, path string
		took       []time.Duration
		size       int
	}{
		{name: fmt.Sprintf("the run with %d tasks", seeItems), path: "/runs/SeeFlow/" + run},
		{name: "its foreach", path: "/runs/SeeFlow/" + run + "/foreach/grid"},
		{name: "its log", path: "/runs/SeeFlow/" + run + "/logs"},
		{name: "the oldest run", path: "/runs/SeeFlow/" + oldest},
		{name: fmt.Sprintf("the list of %d runs", seeRuns), path: "/runs/SeeFlow"},
		{name: "those that failed", path: "/runs/SeeFlow?status=failed"},
		{name: "all flows", path: "/"},
	}
	for range seeRounds {
		for i := range pages {
			p := &pages[i]
			took, size := look.get(base + p.path)
			p.took, p.size = append(p.took, took), size
		}
	}
	for _, p := range pages {
		report(look.B, "page of %s: %.0f ms, the first time %.0f ms, %d KiB (goal under %.0f s: %s)",
			p.name, milliseconds(median(p.took)), milliseconds(p.took[0]), p.size>>10, seePage.Seconds(), verdict(median(p.took) < seePage && p.took[0] < seePage))
	}
}

func seePrint(look *looker) {
	for _, args := range [][]string{
		{"--help"}, // the least that a process needs
		{"list"}, {"list", "SeeFlow"}, {"list", "SeeFlow", "--limit", "0"}, {"show", "SeeFlow/latest"}, {"show", "SeeFlow/latest/fit"},
		{"logs", "SeeFlow/latest"}, {"logs", "SeeFlow/latest/fit[77]"},
	} {
		var firsts, ends, cpu []time.Duration
		for range seeRounds {
			first, end, spent := look.first(args...)
			firsts, ends, cpu = append(firsts, first), append(ends, end), append(cpu, spent)
		}
		report(look.B, "%s: begins to print after %.0f ms (goal under %d ms: %s), ends after %.0f ms, %.0f ms of the processors",
			strings.Join(args, " "), milliseconds(median(firsts)), seeFirst.Milliseconds(), verdict(median(firsts) < seeFirst), milliseconds(median(ends)), milliseconds(median(cpu)))
	}
}

// looker starts the program for one store.
type looker struct {
	*testing.B
	program, dir, store string
}

func (l *looker) with(b *testing.B) *looker {
	b.Helper()
	return &looker{b, l.program, l.dir, l.store}
}

func (l *looker) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(l.Context(), l.program, append(args, "--store", l.store)...)
	cmd.Dir = l.dir
	// The machine's own settings for Temporal and the store must not reach it.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + l.dir, "NO_COLOR=1"}
	return cmd
}

// first runs a verb. It returns when the first byte came, when the process had ended, and what it needed of the processors.
func (l *looker) first(args ...string) (first, end, cpu time.Duration) {
	l.Helper()
	cmd := l.command(args...)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.StdoutPipe()
	require.NoError(l, err)
	began := time.Now()
	require.NoError(l, cmd.Start())
	_, err = io.ReadFull(out, make([]byte, 1))
	first = time.Since(began)
	require.NoError(l, err, "%v printed nothing: %s", args, &problems)
	_, err = io.Copy(io.Discard, out)
	require.NoError(l, err)
	require.NoError(l, cmd.Wait(), "%s", &problems)
	return first, time.Since(began), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// serve starts "ui" and returns where its pages are.
func (l *looker) serve() (base string, stop func()) {
	l.Helper()
	cmd := l.command("ui", "--listen", "127.0.0.1:0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(l, err)
	require.NoError(l, cmd.Start())
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
	}
	require.NoError(l, err)
	at, _, found := strings.Cut(strings.TrimPrefix(line, "pages at "), " ")
	require.True(l, found, line)
	return strings.TrimSuffix(at, "/"), stop
}

// get reads a whole page.
func (l *looker) get(url string) (time.Duration, int) {
	l.Helper()
	began := time.Now()
	r, err := http.NewRequestWithContext(l.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(l, err)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(l, err)
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	require.NoError(l, err)
	require.Equal(l, http.StatusOK, answer.StatusCode, "%s: %.2000s", url, page)
	return time.Since(began), len(page)
}

// seeStore writes a directory with runs, and returns the oldest and the newest one. The latter has a foreach of many items: each logged something, one of
// ten was tried twice, one of a hundred failed.
func seeStore(b *testing.B, location string) (oldest, newest string) {
	b.Helper()
	ctx := b.Context()
	store, err := artifacts.Open(ctx, location, artifacts.Options{})
	require.NoError(b, err)
	plan := seeFlow().Plan()
	began := time.Now().Add(-30 * 24 * time.Hour).UTC()
	start := func(at time.Time) (string, error) {
		id := runs.NewID(at)
		return id, records.CreateRun(ctx, store, records.Run{
			Flow: "SeeFlow", Run: id, Root: id, Plan: plan, Started: at, User: "ada", Tags: []string{"nightly"}, WorkflowID: "SeeFlow/" + id,
			Namespace: "default", TaskQueue: "stepwell",
		})
	}
	end := func(id string, e records.End) error { return records.CreateEnd(ctx, store, "SeeFlow", id, e) }
	many(b, seeRuns-1, func(_ context.Context, i int) error {
		at := began.Add(time.Duration(i) * 5 * time.Minute)
		id, err := start(at)
		if err != nil {
			return err
		}
		if i == 0 {
			oldest = id
		}
		e := records.End{Status: records.StatusCompleted, Ended: at.Add(time.Minute)}
		if i%10 == 7 {
			e.Status, e.Failure = records.StatusFailed, &policies.Failure{Class: policies.Bug, Message: "index out of range", Step: "load", Task: "load", Attempt: 1}
		}
		return end(id, e)
	})

	at := began.Add(29 * 24 * time.Hour)
	id, err := start(at)
	require.NoError(b, err)
	did := func(step string, x flow.Index, from time.Duration, ahead flow.Ahead) error {
		_, _, err := records.CreateTask(ctx, store, records.Task{
			Flow: "SeeFlow", Run: id, Step: step, Index: x, Outcome: records.Completed, Attempt: 1, Worker: "7@host",
			Started: at.Add(from), Ended: at.Add(from + 800*time.Millisecond), Artifacts: map[string]artifacts.Entry{}, Ahead: ahead,
		})
		return err
	}
	require.NoError(b, did("load", nil, 0, flow.Ahead{"grid": {Items: &flow.List{Len: seeItems}}}))
	failure := func(i int, from time.Duration) *policies.Failure {
		return &policies.Failure{Class: policies.Invalid, Message: fmt.Sprintf("item %d has no rows", i), Type: "ValueError", Step: "fit",
			Task: flow.TaskName("fit", flow.Index{i}), Attempt: 1, Time: at.Add(from + time.Second), Worker: "7@host"}
	}
	many(b, seeItems, func(ctx context.Context, i int) error {
		x, from := flow.Index{i}, time.Second+time.Duration(i)*10*time.Millisecond
		line := fmt.Sprintf(`{"time":%q,"level":"INFO","msg":"fitting","rows":%d}`+"\n", at.Add(from).Format(time.RFC3339Nano), i)
		if err := store.PutDoc(ctx, records.LogKey("SeeFlow", id, "fit", x, 1, false), []byte(line)); err != nil {
			return err
		}
		if i%10 == 3 || i%100 == 77 {
			last := i%100 == 77
			err := records.PutAttempt(ctx, store, "SeeFlow", id, "fit", x, records.Attempt{
				Attempt: 1, Outcome: records.Failed, Worker: "7@host", Started: at.Add(from), Ended: at.Add(from + time.Second), Failure: failure(i, from),
				CountsAsCodeFailure: true, Final: last,
			})
			if err != nil || last {
				return err
			}
		}
		return did("fit", x, from, nil)
	})
	first := failure(77, 2*time.Second)
	first.Others = seeItems/100 - 1
	require.NoError(b, end(id, records.End{Status: records.StatusFailed, Ended: at.Add(2 * time.Minute), Failure: first}))
	return oldest, id
}

// many does something often, some of it at the same time.
func many(b *testing.B, n int, do func(ctx context.Context, i int) error) {
	b.Helper()
	g, ctx := errgroup.WithContext(b.Context())
	g.SetLimit(8)
	for i := range n {
		g.Go(func() error { return do(ctx, i) })
	}
	require.NoError(b, g.Wait())
}

type seen struct {
	Rows int `param:"rows" default:"10"`
	Item int
}

func seeFlow() *flow.Flow {
	step := func(context.Context, *seen) error { return nil }
	return flow.New("SeeFlow",
		flow.Step("load", step, policies.Retry{MaximumAttempts: 3}),
		flow.Foreach("grid", func(*seen) []int { return nil }, func(s *seen, i int) { s.Item = i },
			flow.Step("fit", step, policies.Retry{MaximumAttempts: 3}),
		).Join("best", func(context.Context, *seen, flow.Inputs[seen]) error { return nil }),
		flow.Step("end", step),
	)
}
