package tests

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// many is the state of ManyFlow, whose workers and server are killed while its items run.
type many struct {
	Journal string        `param:"journal" default:""`
	Items   int           `param:"items"`
	Pause   time.Duration `param:"pause" default:"0s"`

	Item   int
	Digest uint64
	Count  int
}

func manyFlow() *flow.Flow {
	return flow.New("ManyFlow",
		flow.Step("split", func(context.Context, *many) error { return nil }),
		flow.Foreach("items",
			func(s *many) []int {
				all := make([]int, s.Items)
				for i := range all {
					all[i] = 3*i + 1
				}
				return all
			},
			func(s *many, item int) { s.Item = item },
			flow.Step("item", func(ctx context.Context, s *many) error {
				journal(s.Journal).note("%d:%d", s.Item, os.Getpid())
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(s.Pause):
				}
				s.Digest = digestOf(0, s.Item)
				return nil
			}, policies.Timeout{Heartbeat: 2 * time.Second}, policies.Retry{MaximumAttempts: 1, Lost: 100}),
		).Join("join", func(_ context.Context, s *many, in flow.Inputs[many]) error {
			for i, one := range in.All() {
				if i != s.Count {
					return flow.Fail("input %d comes after %d others", i, s.Count)
				}
				s.Count++
				s.Digest = digestOf(s.Digest, one.Digest)
			}
			return nil
		}, policies.Timeout{Heartbeat: 2 * time.Second}, policies.Retry{MaximumAttempts: 1, Lost: 100}),
	)
}

// digestOf depends on the order in which it is called.
func digestOf(before uint64, v any) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d:%v", before, v)
	return h.Sum64()
}

// undisturbed is what the join of ManyFlow comes to.
func undisturbed(items int) (digest uint64) {
	for i := range items {
		digest = digestOf(digest, digestOf(0, 3*i+1))
	}
	return digest
}

// devProgram is an embedded server as a process of its own.
type devProgram struct {
	*program
	address string
}

func startDev(t testing.TB, dir string) devProgram {
	t.Helper()
	p := devProgram{program: start(t, "starter", dir, nil, "dev", "--state-dir", dir, "--task-queue", "idle")}
	eventually(t, "the server serves", func() bool { return strings.Contains(p.out.String(), "polls task queue") })
	_, rest, ok := strings.Cut(p.out.String(), "Temporal server ")
	require.True(t, ok, p.out)
	p.address, _, _ = strings.Cut(rest, "\n")
	return p
}

// busy returns the last line of the journal that a worker wrote who is still there, which is at work then.
func (w *workers) busy(j journal) string {
	for _, line := range slices.Backward(j.lines()) {
		pid, err := strconv.Atoi(line[strings.LastIndex(line, ":")+1:])
		if err == nil && w.byPID[pid] != nil {
			return line
		}
	}
	w.t.Fatal("none of the workers has done anything")
	return ""
}

// While a foreach of 2,000 items runs, one of two workers is killed every five seconds and the server once. Nothing is lost and
// nothing counted twice.
func TestKilledFanOut(t *testing.T) {
	t.Parallel()
	killFanOut(t, filepath.Join(t.TempDir(), "artifacts"), nil, 2000, 300*time.Millisecond)
}

// BenchmarkKilledFanOut is that with 10,000 items, in a directory and on MinIO in turns.
func BenchmarkKilledFanOut(b *testing.B) {
	const items, pause, rounds, most = 10_000, 300 * time.Millisecond, 3, 1.25
	server, location := s3Server(b)
	var dir, s3 []time.Duration
	for round := range rounds {
		turns := []func(){
			func() { dir = append(dir, killFanOut(b, filepath.Join(b.TempDir(), "artifacts"), nil, items, pause)) },
			func() {
				s3 = append(s3, killFanOut(b, location, server.Env(), items, pause))
			},
		}
		if round%2 == 1 {
			slices.Reverse(turns)
		}
		for _, turn := range turns {
			turn()
		}
	}
	slices.Sort(dir)
	slices.Sort(s3)
	onDisk, onMinIO := dir[rounds/2], s3[rounds/2]
	ratio := onMinIO.Seconds() / onDisk.Seconds()
	verdict := "met"
	if ratio > most {
		verdict = "MISSED"
	}
	b.ReportMetric(ratio, "ratio-minio")
	b.Logf("foreach of %d items with workers that are killed: on MinIO %.1f s, in a directory %.1f s, ratio %.2f (goal at most %.2f: %s); all times %v and %v",
		items, onMinIO.Seconds(), onDisk.Seconds(), ratio, most, verdict, s3, dir)
}

// killFanOut runs a foreach over a store while it kills its workers and the server. It returns how long the run took.
func killFanOut(t testing.TB, location string, env []string, items int, pause time.Duration) time.Duration {
	t.Helper()
	const every = 5 * time.Second
	dir, j := t.TempDir(), newJournal(t)
	server := startDev(t, dir)
	defer func() { server.kill() }() // the one that runs by then
	w := &workers{
		t: t, queue: strings.ReplaceAll(t.Name(), "/", "-"), store: location, byPID: map[int]*program{},
		env: append([]string{"TEMPORAL_ADDRESS=" + server.address}, env...),
	}
	w.add()
	w.add()

	// Not through the command line: only an embedded server of its own makes it notice soon that a workflow task is lost.
	temporal, err := client.DialContext(t.Context(), client.Options{
		HostPort: server.address, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
		ConnectionOptions: client.ConnectionOptions{GetSystemInfoTimeout: time.Minute}, // a busy machine takes more than the default 5 s
	})
	require.NoError(t, err)
	defer temporal.Close()
	for _, setting := range env {
		name, value, _ := strings.Cut(setting, "=")
		if before, has := os.LookupEnv(name); !has || before != value {
			require.NoError(t, os.Setenv(name, value)) //nolint:usetesting // a test beside others cannot, and none of them has another server
		}
	}
	store, err := artifacts.Open(t.Context(), location, artifacts.Options{})
	require.NoError(t, err)
	c := stepwell.NewClient(temporal, store, stepwell.ClientOptions{TaskQueue: w.queue, Heartbeat: 2 * time.Second, User: "tester"})
	run, err := c.Start(t.Context(), manyFlow(), stepwell.StartOptions{Params: map[string]string{
		"journal": string(j), "items": strconv.Itoa(items), "pause": pause.String(),
	}})
	require.NoError(t, err)
	eventually(t, "items run", func() bool { return len(j.lines()) > 0 })

	kills := 0
	for ticks := time.NewTicker(every); len(j.lines()) < items; {
		<-ticks.C
		w.kill(w.busy(j))
		w.add()
		if kills++; kills == 2 {
			server.kill()
			server.exit(t)
			again := startDev(t, dir)
			require.Equal(t, server.address, again.address)
			server = again
		}
	}
	require.GreaterOrEqual(t, kills, 3)

	run, err = c.Wait(t.Context(), run.Flow, run.Run.Run)
	require.NoError(t, err)
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	s := lastState[many](t, run, manyFlow())
	require.Equal(t, items, s.Count)
	require.Equal(t, undisturbed(items), s.Digest, "as if nothing had happened")
	require.Greater(t, len(j.lines()), items, "items were lost with their workers and ran again")
	requireRecords(t, store, run, "item", items)
	for _, p := range w.byPID {
		p.kill()
	}
	return run.Duration()
}

// requireRecords checks that a foreach's step has a record for each of n items, and no other.
func requireRecords(t testing.TB, store *artifacts.Store, run *runs.Run, step string, n int) {
	t.Helper()
	seen := make([]int, n)
	for x, err := range records.TaskIndexes(t.Context(), store, run.Flow, run.Run.Run, step) {
		require.NoError(t, err)
		require.Len(t, x, 1)
		require.Less(t, x[0], n)
		seen[x[0]]++
	}
	for i, records := range seen {
		require.Equal(t, 1, records, "records of item %d", i)
	}
}
