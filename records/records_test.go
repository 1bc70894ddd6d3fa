package records_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/driver"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

var update = flag.Bool("update", false, "write the golden files anew")

// newStore keeps nothing in memory of its own: damage is to be seen.
func newStore() *artifacts.Store {
	return artifacts.New(mem.New(), artifacts.Options{CacheBytes: -1})
}

var at = time.Date(2026, 1, 31, 12, 0, 0, 5_000_000, time.UTC)

func failure() *policies.Failure {
	return &policies.Failure{
		Class: policies.RateLimited, Message: "slow down", Type: "HTTPError", Stack: "goroutine 1", Flow: "F", Run: "r", Step: "fit", Task: "fit[3,0]",
		Attempt: 2, CodeFailures: 2, RetryAfter: 30 * time.Second, Time: at, Worker: "w@host",
	}
}

func run() records.Run {
	spec := policies.NewSpec(nil, nil, nil)
	return records.Run{
		Version: 1, Flow: "F", Run: "r",
		Plan: flow.Plan{Version: 1, Flow: "F", Root: flow.PlanNode{Kind: flow.KindSeq, Nodes: []flow.PlanNode{
			{Kind: flow.KindStep, Name: "fit", Policy: &spec},
		}}},
		Params: map[string]string{"alpha": "0.5"}, Tags: []string{"nightly"}, User: "ada", Started: at, Code: "abc123",
		WorkflowID: "parent/7", TaskQueue: "stepwell", Namespace: "default", Origin: "q", Root: "p", Reused: map[string]string{"load": "p"},
	}
}

func task() records.Task {
	return records.Task{
		Version: 1, Flow: "F", Run: "r", Step: "fit", Index: flow.Index{3, 0}, Outcome: records.Caught, Attempt: 2, Worker: "w@host",
		Started: at, Ended: at.Add(time.Second),
		Parents: []records.Ref{{Run: "q", Step: "load", Digest: artifacts.Sum([]byte("parent"))}},
		Artifacts: map[string]artifacts.Entry{"N": {
			Digest: artifacts.Sum([]byte{5}), Size: 1, Codec: "cbor", Type: "int", Inline: []byte{5}, By: "r/fit[3,0]"}},
		Changed: []string{"N"}, Failure: failure(),
	}
}

func attempt(n int) records.Attempt {
	return records.Attempt{
		Attempt: n, Outcome: records.Failed, Worker: "w@host", Started: at, Ended: at.Add(time.Second), Failure: failure(),
		CountsAsCodeFailure: true, Delay: 1500 * time.Millisecond, Reason: "exponential 2s, full jitter drew 1.5s",
	}
}

func end() records.End {
	return records.End{Status: records.StatusFailed, Ended: at, Failure: failure(), Last: &records.Ref{Run: "r", Step: "fit", Index: flow.Index{3, 0}, Digest: artifacts.Sum([]byte("last"))}}
}

// Documents outlive the program that wrote them: their form must not change.
func TestDocumentsJSON(t *testing.T) {
	t.Parallel()
	golden(t, "run", run())
	golden(t, "task", task())
	golden(t, "attempt", attempt(2))
	golden(t, "end", end())
	golden(t, "run.small", records.Run{Version: 1, Flow: "F", Run: "r", Plan: run().Plan, Started: at, TaskQueue: "stepwell", Root: "r"})
	golden(t, "task.small", records.Task{Version: 1, Flow: "F", Run: "r", Step: "a", Outcome: records.Completed, Attempt: 1, Started: at, Ended: at, Artifacts: map[string]artifacts.Entry{}})
	golden(t, "attempt.lost", records.Attempt{Attempt: 1, Outcome: records.Lost})
	golden(t, "end.small", records.End{Status: records.StatusCompleted, Ended: at})
}

// golden compares a document with a file of testdata, and what is read from the file with the document.
func golden[T any](t *testing.T, name string, doc T) {
	t.Helper()
	got, err := json.MarshalIndent(doc, "", "  ")
	require.NoError(t, err)
	got = append(got, '\n')
	file := "testdata/" + name + ".golden.json"
	if *update {
		require.NoError(t, os.WriteFile(file, got, 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "%s (go test ./records -update writes it anew)", file)
	var back T
	require.NoError(t, json.Unmarshal(want, &back))
	require.Equal(t, doc, back, "%s read back", file)
}

func TestKeys(t *testing.T) {
	t.Parallel()
	none, one, two := flow.Index(nil), flow.Index{3}, flow.Index{3, 0}
	for key, want := range map[string]string{
		records.FlowsPrefix:                                     "flows/",
		records.FlowPrefix("F"):                                 "flows/F/",
		records.RunPrefix("F", "r"):                             "flows/F/r/",
		records.RunKey("F", "r"):                                "flows/F/r/run.json",
		records.EndKey("F", "r"):                                "flows/F/r/end.json",
		records.TaskKey("F", "r", "fit", none):                  "flows/F/r/tasks/fit.json",
		records.TaskKey("F", "r", "fit", one):                   "flows/F/r/tasks/fit/3.json",
		records.TaskKey("F", "r", "fit", two):                   "flows/F/r/tasks/fit/3.0.json",
		records.AttemptsPrefix("F", "r", "fit", two):            "flows/F/r/attempts/fit/3.0/",
		records.AttemptKey("F", "r", "fit", none, 7):            "flows/F/r/attempts/fit/_/00007.json",
		records.AttemptKey("F", "r", "fit", two, 123456):        "flows/F/r/attempts/fit/3.0/123456.json",
		records.LogsPrefix("F", "r", "fit", one):                "flows/F/r/logs/fit/3/",
		records.LogKey("F", "r", "fit", one, 2, false):          "flows/F/r/logs/fit/3/00002.log",
		records.LogKey("F", "r", "fit", none, 2, true):          "flows/F/r/logs/fit/_/00002-catch.log",
		records.CardsPrefix("F", "r", "fit", two):               "flows/F/r/cards/fit/3.0/",
		records.CardKey("F", "r", "fit", none, "default"):       "flows/F/r/cards/fit/_/default.html",
		records.RunKey("my-flow_2", "2026-01-31T12.00.00-ab_c"): "flows/my-flow_2/2026-01-31T12.00.00-ab_c/run.json",
	} {
		require.Equal(t, want, key)
		if strings.HasSuffix(key, "/") {
			require.NoError(t, driver.CheckPrefix(key))
		} else {
			require.NoError(t, driver.CheckKey(key))
		}
	}
}

// What a name that leads elsewhere gives is a key that every store refuses, not the key of something else.
func TestKeysDoNotLeadElsewhere(t *testing.T) {
	t.Parallel()
	for _, key := range []string{
		records.RunKey("..", "r"), records.RunKey("F", ".."), records.RunKey("", "r"), records.RunKey("F/../G", "r"), records.EndKey("F", ""),
		records.TaskKey("F", "r", "../x", nil), records.TaskKey("F", "r", "..", flow.Index{1}), records.AttemptKey("F", "..", "s", nil, 1),
		records.LogKey("F", "r", "../x", nil, 1, false), records.CardKey("F", "r", "s", nil, "../../x"),
	} {
		require.Error(t, driver.CheckKey(key), "%q", key)
	}
	_, err := records.LoadRun(t.Context(), newStore(), "../..", "r")
	require.ErrorContains(t, err, "a key cannot leave its store")
	_, _, err = records.FindTask(t.Context(), newStore(), "F", "r", "../x", nil)
	require.ErrorContains(t, err, "a key cannot leave its store")
}

func TestParseLogName(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 99_999, 123_456} {
		for _, catch := range []bool{false, true} {
			key := records.LogKey("F", "r", "s", nil, n, catch)
			gotN, gotCatch, ok := records.ParseLogName(key[strings.LastIndex(key, "/")+1:])
			require.True(t, ok, key)
			require.Equal(t, n, gotN)
			require.Equal(t, catch, gotCatch)
		}
	}
	for _, name := range []string{"", ".log", "1", "1.txt", "-1.log", "+1.log", "x.log", "1-catch", "1-catch-catch.log", "-catch.log", "1.log.log", " 1.log", "1e3.log", "99999999999999999999.log", "00001-Catch.log"} {
		n, catch, ok := records.ParseLogName(name)
		require.False(t, ok, "%q", name)
		require.Zero(t, n, "%q", name)
		require.False(t, catch, "%q", name)
	}
}

func TestCheckRunID(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"1", "a", "run-1", "2026-01-31T12.00.00-ab_c", "a.b", "A_b-c.d", "latest1", strings.Repeat("a", 100), "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"} {
		require.NoError(t, records.CheckRunID(id), id)
	}
	for _, id := range []string{
		"", " ", ".", "..", "...", ".a", "a..b", "a..", "-a", "_a", "a/b", "/a", "a/", `a\b`, "../a", "a b", "a\n", "\na", "a\x00", "é", "aé", "ａ", "a:b", "a%2fb", "~", "a*",
		strings.Repeat("a", 101), "\xff",
	} {
		require.ErrorContains(t, records.CheckRunID(id), "is not allowed", "%q", id)
	}
	require.EqualError(t, records.CheckRunID("latest"), `run id "latest" is not allowed (it means the newest run)`)
}

func FuzzCheckRunID(f *testing.F) {
	for _, id := range []string{"run-1", "..", "a/b", "a\\b", "é", "a.b", "latest", strings.Repeat("a", 101), ".tmp"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if records.CheckRunID(id) != nil {
			return
		}
		require.LessOrEqual(t, len(id), 100)
		key := records.RunKey("F", id)
		require.NoError(t, driver.CheckKey(key), "what is allowed can be stored")
		require.Equal(t, 3, strings.Count(key, "/"))
		require.NotContains(t, key, "..")
	})
}

func TestRun(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), newStore()
	_, err := records.LoadRun(ctx, s, "F", "r")
	require.ErrorIs(t, err, artifacts.ErrNotFound)

	doc := run()
	doc.Version = 0
	require.NoError(t, records.CreateRun(ctx, s, doc))
	got, err := records.LoadRun(ctx, s, "F", "r")
	require.NoError(t, err)
	require.Equal(t, run(), got, "the version is filled in")

	other := run()
	other.User = "eve"
	require.ErrorIs(t, records.CreateRun(ctx, s, other), artifacts.ErrExists)
	got, err = records.LoadRun(ctx, s, "F", "r")
	require.NoError(t, err)
	require.Equal(t, "ada", got.User, "the first run keeps its id")

	for _, id := range []string{"", "../r", "a/b", "latest"} {
		other.Run = id
		require.ErrorContains(t, records.CreateRun(ctx, s, other), "is not allowed")
		_, err = records.LoadRun(ctx, s, "F", id)
		require.ErrorContains(t, err, "is not allowed")
	}
}

func TestTask(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), newStore()
	_, _, err := records.FindTask(ctx, s, "F", "r", "fit", flow.Index{3, 0})
	require.ErrorIs(t, err, artifacts.ErrNotFound)

	ref, got, err := records.CreateTask(ctx, s, task())
	require.NoError(t, err)
	require.Equal(t, task(), got)
	b, err := s.GetDoc(ctx, records.TaskKey("F", "r", "fit", flow.Index{3, 0}))
	require.NoError(t, err)
	require.Equal(t, records.Ref{Run: "r", Step: "fit", Index: flow.Index{3, 0}, Digest: artifacts.Sum(b)}, ref)

	loaded, err := records.LoadTask(ctx, s, "F", ref)
	require.NoError(t, err)
	require.Equal(t, task(), loaded)
	foundRef, found, err := records.FindTask(ctx, s, "F", "r", "fit", flow.Index{3, 0})
	require.NoError(t, err)
	require.Equal(t, ref, foundRef)
	require.Equal(t, task(), found)

	// An attempt that comes late adopts what is there.
	late := task()
	late.Attempt, late.Worker, late.Outcome, late.Failure = 9, "late", records.Completed, nil
	lateRef, stands, err := records.CreateTask(ctx, s, late)
	require.NoError(t, err)
	require.Equal(t, ref, lateRef)
	require.Equal(t, task(), stands)

	// Other tasks are other records.
	late.Index = flow.Index{3, 1}
	otherRef, _, err := records.CreateTask(ctx, s, late)
	require.NoError(t, err)
	require.NotEqual(t, ref.Digest, otherRef.Digest)
}

// Of workers that finish the same task at the same time one record stands, and all of them know which.
func TestCreateTaskConcurrently(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), newStore()
	const workers = 32
	var (
		wg    sync.WaitGroup
		refs  [workers]records.Ref
		tasks [workers]records.Task
		errs  [workers]error
	)
	for i := range workers {
		wg.Go(func() {
			mine := task()
			mine.Attempt = i + 1
			refs[i], tasks[i], errs[i] = records.CreateTask(ctx, s, mine)
		})
	}
	wg.Wait()
	stands, err := records.LoadTask(ctx, s, "F", refs[0])
	require.NoError(t, err)
	for i := range workers {
		require.NoError(t, errs[i])
		require.Equal(t, refs[0], refs[i])
		require.Equal(t, stands, tasks[i])
	}
}

// Of those that replace the same record of a batch at the same time one decides, and all of them know which.
func TestReplaceBatchConcurrently(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), newStore()
	batch := func(worker string) records.Shard {
		return records.Shard{Version: 1, Flow: "F", Run: "r", Foreach: "items", Count: 2, Worker: worker, Items: []records.Item{{Index: 1, Outcome: records.Completed}}}
	}
	old, _, err := records.CreateBatch(ctx, s, batch("before"))
	require.NoError(t, err)
	const workers = 32
	var (
		wg      sync.WaitGroup
		digests [workers]artifacts.Digest
		batches [workers]records.Shard
		errs    [workers]error
	)
	for i := range workers {
		wg.Go(func() {
			digests[i], batches[i], errs[i] = records.ReplaceBatch(ctx, s, batch(strconv.Itoa(i)), old)
		})
	}
	wg.Wait()
	digest, stands, err := records.FindBatch(ctx, s, "F", "r", "items", nil, 0)
	require.NoError(t, err)
	for i := range workers {
		require.NoError(t, errs[i])
		require.Equal(t, digest, digests[i])
		require.Equal(t, stands, batches[i])
	}
	firsts, err := records.Batches(ctx, s, "F", "r", "items", nil)
	require.NoError(t, err)
	require.Equal(t, []int{0}, firsts)

	// The one that took its place can be replaced as well.
	again, _, err := records.ReplaceBatch(ctx, s, batch("after"), digest)
	require.NoError(t, err)
	require.NotEqual(t, digest, again)
	_, err = records.LoadBatch(ctx, s, "F", "items", nil, records.Batch{Run: "r", Digest: again})
	require.NoError(t, err)
}

func TestEnd(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), newStore()
	_, err := records.LoadEnd(ctx, s, "F", "r")
	require.ErrorIs(t, err, artifacts.ErrNotFound)
	require.NoError(t, records.CreateEnd(ctx, s, "F", "r", end()))
	require.NoError(t, records.CreateEnd(ctx, s, "F", "r", records.End{Status: records.StatusCompleted}), "the activity may run twice")
	got, err := records.LoadEnd(ctx, s, "F", "r")
	require.NoError(t, err)
	require.Equal(t, end(), got, "the first end stands")
}

func TestAttempts(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), newStore()
	x := flow.Index{3, 0}
	all, err := records.Attempts(ctx, s, "F", "r", "fit", x)
	require.NoError(t, err)
	require.Empty(t, all)

	order := []int{10, 100_000, 2, 99_999, 1}
	for _, n := range order {
		require.NoError(t, records.PutAttempt(ctx, s, "F", "r", "fit", x, attempt(n)))
	}
	require.NoError(t, records.PutAttempt(ctx, s, "F", "r", "fit", flow.Index{3}, attempt(5)), "another task's")
	require.NoError(t, records.PutAttempt(ctx, s, "F", "r", "fit", flow.Index{3, 0, 1}, attempt(5)), "another task's")
	all, err = records.Attempts(ctx, s, "F", "r", "fit", x)
	require.NoError(t, err)
	require.Equal(t, []records.Attempt{attempt(1), attempt(2), attempt(10), attempt(99_999), attempt(100_000)}, all, "oldest first, by number")

	again := attempt(2)
	again.Reason = "written again"
	require.NoError(t, records.PutAttempt(ctx, s, "F", "r", "fit", x, again))
	all, err = records.Attempts(ctx, s, "F", "r", "fit", x)
	require.NoError(t, err)
	require.Len(t, all, 5)
	require.Equal(t, again, all[1])
}

// readers are the ways to read each kind of document.
func readers(t *testing.T, s *artifacts.Store) map[string]func() error {
	t.Helper()
	ctx := t.Context()
	return map[string]func() error{
		records.RunKey("F", "r"): func() error { _, err := records.LoadRun(ctx, s, "F", "r"); return err },
		records.TaskKey("F", "r", "s", nil): func() error {
			ref, got, err := records.FindTask(ctx, s, "F", "r", "s", nil)
			if err != nil {
				require.Zero(t, ref)
				require.Zero(t, got)
			}
			return err
		},
		records.EndKey("F", "r"): func() error { _, err := records.LoadEnd(ctx, s, "F", "r"); return err },
	}
}

func TestDamagedDocuments(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), newStore()
	for key, read := range readers(t, s) {
		for _, damaged := range []string{"", "{", "not JSON", `[]`, `"text"`, `{"version":1,"outcome":5,"status":5,"user":5}`, `{"version":1}x`, "\x00\x00"} {
			require.NoError(t, s.PutDoc(ctx, key, []byte(damaged)))
			err := read()
			require.ErrorIs(t, err, artifacts.ErrCorrupt, "%s: %q", key, damaged)
			require.ErrorContains(t, err, `"`+key+`" in store "mem:"`, "the object is named")
		}
	}
	for _, key := range []string{records.RunKey("F", "r"), records.TaskKey("F", "r", "s", nil)} {
		for _, damaged := range []string{"{}", "null", `{"version":0}`, `{"version":-1}`} {
			require.NoError(t, s.PutDoc(ctx, key, []byte(damaged)))
			err := readers(t, s)[key]()
			require.ErrorIs(t, err, artifacts.ErrCorrupt, "%s: %q", key, damaged)
			require.ErrorContains(t, err, "it has no version")
		}
	}
}

func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), newStore()
	ref, _, err := records.CreateTask(ctx, s, task())
	require.NoError(t, err)
	key := records.TaskKey("F", "r", "fit", flow.Index{3, 0})
	b, err := s.GetDoc(ctx, key)
	require.NoError(t, err)
	changed := bytes.Replace(b, []byte(`"attempt":2`), []byte(`"attempt":3`), 1)
	require.NotEqual(t, b, changed)
	require.NoError(t, s.PutDoc(ctx, key, changed))

	_, err = records.LoadTask(ctx, s, "F", ref)
	require.ErrorIs(t, err, artifacts.ErrCorrupt, "it can be read, but it is not what the reference points at")
	var corrupt *artifacts.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, key, corrupt.Key)
	require.Equal(t, "mem:", corrupt.Store)
	require.Contains(t, corrupt.Reason, ref.Digest.String())
	require.Contains(t, corrupt.Reason, artifacts.Sum(changed).String())

	// The attempt that would have written it again learns that what is there cannot be used.
	require.NoError(t, s.PutDoc(ctx, key, b[:len(b)/2]))
	_, _, err = records.CreateTask(ctx, s, task())
	require.ErrorIs(t, err, artifacts.ErrCorrupt)

	ref.Step = "nowhere"
	_, err = records.LoadTask(ctx, s, "F", ref)
	require.ErrorIs(t, err, artifacts.ErrNotFound)
}

// A damaged ledger entry must not keep its task from going on, or its run from ending: it tells of a lost attempt.
func TestDamagedLedger(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), newStore()
	require.NoError(t, records.PutAttempt(ctx, s, "F", "r", "s", nil, records.Attempt{Attempt: 1, Outcome: records.Failed, CountsAsCodeFailure: true}))
	require.NoError(t, s.PutDoc(ctx, records.AttemptKey("F", "r", "s", nil, 2), nil))
	require.NoError(t, s.PutDoc(ctx, records.AttemptKey("F", "r", "s", nil, 3), []byte("null")))
	require.NoError(t, s.PutDoc(ctx, records.AttemptsPrefix("F", "r", "s", nil)+"junk", []byte("{")))
	all, err := records.Attempts(ctx, s, "F", "r", "s", nil)
	require.NoError(t, err)
	require.Equal(t, []records.Attempt{
		{Attempt: 1, Outcome: records.Failed, CountsAsCodeFailure: true},
		{Attempt: 2, Outcome: records.Lost, Reason: "its ledger entry is damaged"},
		{Attempt: 3, Outcome: records.Lost, Reason: "its ledger entry is damaged"},
	}, all)
	require.False(t, all[0].Damaged())
	require.True(t, all[1].Damaged())
}

// A folder that was copied or renamed is not the run that its name says.
func TestForeignDocuments(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), newStore()
	for _, key := range []string{records.RunKey("F", "r"), records.TaskKey("F", "r", "s", nil)} {
		require.NoError(t, s.PutDoc(ctx, key, []byte(`{"version":1,"flow":"F","run":"other","step":"s"}`)))
		require.ErrorIs(t, readers(t, s)[key](), artifacts.ErrCorrupt)
	}
	_, _, err := records.CreateTask(ctx, newStore(), task())
	require.NoError(t, err)
	_, _, err = records.CreateTask(ctx, s, task())
	require.NoError(t, err)
	twice := task()
	twice.Parents = append(twice.Parents, records.Ref{Run: "x", Step: "y"})
	_, _, err = records.CreateTask(ctx, s, twice)
	require.ErrorIs(t, err, artifacts.ErrExists, "a record that was made from another state is not adopted")
}

// A newer Stepwell may add fields without asking. What it changes it gives a new version, which this one
// does not pretend to understand.
func TestNewerDocuments(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), newStore()
	for key, read := range readers(t, s) {
		require.NoError(t, s.PutDoc(ctx, key, []byte(`{"version":1,"flow":"F","run":"r","step":"s","invented_later":{"a":[1]}}`)))
		require.NoError(t, read(), key)
	}
	for _, key := range []string{records.RunKey("F", "r"), records.TaskKey("F", "r", "s", nil)} {
		for _, newer := range []string{`{"version":2}`, `{"version":2,"plan":"now a text","artifacts":[1],"outcome":{}}`} {
			require.NoError(t, s.PutDoc(ctx, key, []byte(newer)))
			err := readers(t, s)[key]()
			require.ErrorIs(t, err, records.ErrNewer, "%s: %s", key, newer)
			require.NotErrorIs(t, err, artifacts.ErrCorrupt)
			require.EqualError(t, err, `"`+key+`" in store "mem:" has version 2, this program knows 1: written by a newer Stepwell (upgrade this program)`)
		}
	}
	b := []byte(`{"version":3,"artifacts":[]}`)
	require.NoError(t, s.PutDoc(ctx, records.TaskKey("F", "r", "s", nil), b))
	_, err := records.LoadTask(ctx, s, "F", records.Ref{Run: "r", Step: "s", Digest: artifacts.Sum(b)})
	require.ErrorIs(t, err, records.ErrNewer)
}

// Whatever a record says, its reference leads back to it.
func TestTaskRoundTrip(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		s := newStore()
		want := task()
		want.Step = rapid.StringMatching(`[A-Za-z][A-Za-z0-9_-]{0,10}`).Draw(t, "step")
		if index := rapid.SliceOfN(rapid.IntMin(0), 0, 3).Draw(t, "index"); len(index) > 0 {
			want.Index = index
		} else {
			want.Index = nil
		}
		want.Worker = rapid.String().Draw(t, "worker")
		want.Changed = rapid.SliceOfN(rapid.String(), 1, 3).Draw(t, "changed")
		want.Artifacts = rapid.MapOf(rapid.String(), rapid.Custom(func(t *rapid.T) artifacts.Entry {
			b := rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "content")
			return artifacts.Entry{Digest: artifacts.Sum(b), Size: int64(len(b)), Codec: "raw", Inline: b}
		})).Draw(t, "artifacts")
		ref, _, err := records.CreateTask(ctx, s, want)
		require.NoError(t, err)
		got, err := records.LoadTask(ctx, s, "F", ref)
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}
