package tests

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/examples/failures"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/tests/testserver"
)

// rowOfFailures is a row of the table in docs/failures.md.
type rowOfFailures struct {
	kind     string
	classes  []string // that it says the failures have
	messages []string // and parts of their messages
	why      []string // lines of what "why" prints
}

func rowsOfFailures(t *testing.T) []rowOfFailures {
	t.Helper()
	b, err := os.ReadFile("../docs/failures.md")
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(b), "\n## What fails, and what happens\n")
	require.True(t, ok)
	section, _, _ = strings.Cut(section, "\n## ")
	var rows []rowOfFailures
	for _, m := range regexp.MustCompile("(?m)^\\|.*\\|(.*)\\|.*\\|.*\\| `--kind ([a-z]+)` \\|$").FindAllStringSubmatch(section, -1) {
		row := rowOfFailures{kind: m[2]}
		for _, quoted := range regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(m[1], -1) {
			if regexp.MustCompile(`^[A-Z][A-Za-z]+$`).MatchString(quoted[1]) && quoted[1] != "EOF" {
				row.classes = append(row.classes, quoted[1])
			} else {
				row.messages = append(row.messages, quoted[1])
			}
		}
		_, below, ok := strings.Cut(section, "\n### "+row.kind+"\n")
		require.True(t, ok, row.kind)
		below, _, _ = strings.Cut(below, "\n### ")
		blocks := strings.Split(below, "\n```\n") // the last one is what "why" prints
		require.GreaterOrEqual(t, len(blocks), 3, row.kind)
		row.why = strings.Split(blocks[len(blocks)-2], "\n")
		rows = append(rows, row)
	}
	return rows
}

// pattern is a text in which "…" stands for anything, also for nothing.
func pattern(text string) *regexp.Regexp {
	return regexp.MustCompile(strings.NewReplacer(" … ", " (?:.* )?", "…", ".*").Replace(regexp.QuoteMeta(text)))
}

// missing is the first of the lines that is not in what was printed, in their order, "" if all are.
func (row rowOfFailures) missing(printed string) string {
	lines := strings.Split(printed, "\n")
	for _, want := range row.why {
		whole := regexp.MustCompile("^" + pattern(want).String() + "$")
		i := slices.IndexFunc(lines, whole.MatchString)
		if i < 0 {
			return want
		}
		lines = lines[i+1:]
	}
	return ""
}

// Every row of the table of failures, on a real server: the class, the message and what "why" prints are what the document says.
func TestFailures(t *testing.T) {
	t.Parallel()
	f := failures.FlowWith(false)
	location := t.TempDir()
	r := newRig(t, location, f)
	env := []string{"TEMPORAL_ADDRESS=" + testserver.Get(t).Address, "TEMPORAL_NAMESPACE=" + testserver.Get(t).Namespace}
	why := func(t *testing.T, store, spec string) string {
		t.Helper()
		code, stdout, stderr := call(t, "starter", t.TempDir(), env, "why", spec, "--store", store)
		require.Equal(t, stepwell.ExitOK, code, "%s%s", stdout, stderr)
		hint := regexp.MustCompile(`(?m)^  \S+ --store .* ([a-z]+) FailuresFlow/`) // the program has another name, and is told the store
		return hint.ReplaceAllString(stdout, "  starter $1 FailuresFlow/")
	}
	// show compares a run with the document. For a foreach it is enough if one of its tasks fits.
	show := func(t *testing.T, row rowOfFailures, store string, specs ...string) {
		t.Helper()
		var all []string
		for _, spec := range specs {
			printed := why(t, store, spec)
			if row.missing(printed) == "" {
				for _, class := range row.classes {
					require.Regexp(t, `(?i)\b`+class+`\b`, printed, "the table has it")
				}
				for _, message := range row.messages {
					require.Regexp(t, pattern(message), printed)
				}
				return
			}
			all = append(all, printed)
		}
		require.Fail(t, "docs/failures.md shows something else", "%s\nprinted:\n%s", row.missing(all[0]), strings.Join(all, "\n"))
	}

	run := func(t *testing.T, kind string) *runs.Run {
		t.Helper()
		started, err := r.client.Start(t.Context(), f, stepwell.StartOptions{Params: map[string]string{"kind": kind}})
		require.NoError(t, err)
		return started
	}
	state := func(t *testing.T, done *runs.Run) *failures.State {
		t.Helper()
		require.Equal(t, records.StatusCompleted, done.Status, "%+v", done.Failure)
		return lastState[failures.State](t, done, f)
	}
	for _, row := range rowsOfFailures(t) {
		t.Run(row.kind, func(t *testing.T) {
			t.Parallel()
			switch row.kind {
			case "cooldown": // a minute and a half that can be skipped
				folder := t.TempDir()
				store, err := artifacts.Open(t.Context(), folder, artifacts.Options{})
				require.NoError(t, err)
				done := flowtest.Run(t, f, flowtest.Options{Store: store, Params: map[string]string{"kind": row.kind}})
				show(t, row, folder, done.Pathspec()+"/"+row.kind)
				return
			case "lost":
				testLostRow(t, func(done *runs.Run, store string) { show(t, row, store, done.Pathspec()+"/"+row.kind) })
				return
			case "bug":
				testBugRow(t, func(paused *runs.Run, store string) { show(t, row, store, paused.Pathspec()+"/"+row.kind) })
				return
			}
			done := r.wait(run(t, row.kind))
			specs := []string{done.Pathspec() + "/" + row.kind}
			switch row.kind {
			case "breaker":
				for _, i := range []string{"0", "1", "2"} {
					specs = append(specs, done.Pathspec()+"/look["+i+"]")
				}
				require.Equal(t, 12, state(t, done).Items)
				require.Empty(t, state(t, done).Failed)
			case "budget":
				require.Equal(t, map[string]int{"OverBudget": 40}, state(t, done).Failed)
			case "items":
				require.Equal(t, map[string]int{"Invalid": 2}, state(t, done).Failed)
			case "charge":
				require.Equal(t, 1, state(t, done).Charges)
			case "denied":
				require.Equal(t, records.StatusFailed, done.Status)
				require.Equal(t, policies.Denied, done.Failure.Class)
			case "input":
				require.Equal(t, "unknown", state(t, done).Answer)
			case "memory":
				again := r.wait(run(t, row.kind))
				require.Equal(t, "300 MiB", state(t, again).Answer)
				require.Len(t, attempts(t, again, "memory"), 1, "the rung is remembered")
			default:
				state(t, done)
			}
			if row.kind == "service" {
				require.GreaterOrEqual(t, attempts(t, done, "service")[2].Waited, 2*time.Second)
			}
			show(t, row, location, specs...)
		})
	}
}

// The only worker is killed in the middle of the step, and another one is started.
func testLostRow(t *testing.T, show func(*runs.Run, string)) {
	t.Helper()
	w := newWorkers(t, 1)
	flowName, id := w.start("FailuresFlow", "--kind", "lost")
	for pid, p := range w.byPID {
		eventually(t, "the step is running", func() bool { return strings.Contains(p.err.String(), "kill this worker") })
		p.kill()
		p.exit(t)
		delete(w.byPID, pid)
	}
	w.add()
	run := w.attach(flowName, id)
	require.Equal(t, records.StatusCompleted, run.Status)
	require.Equal(t, []records.Outcome{records.Lost, records.Completed}, outcomes(attempts(t, run, "lost")))
	show(run, w.store)
}

// A worker with mended code is deployed, and a person lets the step be tried again.
func testBugRow(t *testing.T, show func(*runs.Run, string)) {
	t.Helper()
	location := t.TempDir()
	r := newRig(t, location, failures.FlowWith(false))
	run, err := r.client.Start(t.Context(), failures.FlowWith(false), stepwell.StartOptions{Params: map[string]string{"kind": "bug"}})
	require.NoError(t, err)
	eventually(t, "the task waits for a person", func() bool {
		task, err := run.Task(t.Context(), "bug")
		return err == nil && task.State == runs.Paused
	})
	show(run, location)
	r.restart(failures.FlowWith(true))
	_, err = r.client.Decide(t.Context(), run.Flow, run.Run.Run, "bug", stepwell.Retry)
	require.NoError(t, err)
	run = r.wait(run)
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	require.Equal(t, "21.5", lastState[failures.State](t, run, failures.FlowWith(true)).Answer)
	require.Len(t, attempts(t, run, "bug"), 3)
}
