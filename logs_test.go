package stepwell

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// logAt is a line of a log.
func logAt(at time.Time, text string) string {
	return fmt.Sprintf(`{"time":%q,"level":"INFO","msg":%q}`, at.Format(time.RFC3339Nano), text)
}

// messages are the last words of lines.
func messages(text string) (out []string) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		out = append(out, fields[len(fields)-1])
	}
	return out
}

// env is the environment of a program that finds the store.
func (s *station) env(name string) (string, bool) {
	if name == "STEPWELL_STORE" {
		return s.dir, true
	}
	return "", false
}

// TestLogsAreFollowed has a run whose logs grow, each line once, those of two tasks in the order of time, until the run ends.
func TestLogsAreFollowed(t *testing.T) {
	t.Parallel()
	s := newShapes(t)
	s.flow = gridFlow(flow.Fan{})
	const id = "20260104-120000-00fffff"
	s.start(id, at("12:00:00.000"), nil)
	write := func(i, attempt int, lines ...string) {
		s.doc(records.LogKey("TrainFlow", id, "fit", flow.Index{i}, attempt, false), strings.Join(lines, "\n")+"\n")
	}
	old := time.Now().Add(-time.Hour) // so that nothing is held back
	one, two, three, four, five := logAt(old, "one"), logAt(old.Add(1), "two"), logAt(old.Add(2), "three"), logAt(old.Add(3), "four"), logAt(old.Add(4), "five")
	write(1, 1, one)
	out := &output{}
	done := make(chan int, 1)
	go func() {
		done <- App{Flows: []*flow.Flow{s.flow}}.Run(t.Context(), []string{"logs", "-f", "TrainFlow/" + id}, IO{Out: out, Err: out, Env: s.env})
	}()
	wait(t, out, "one")
	write(1, 1, one, two)
	wait(t, out, "two")
	write(1, 1, one, two, four)
	write(7, 1, three)
	wait(t, out, "three")
	wait(t, out, "four")
	write(7, 2, logAt(time.Now().Add(time.Hour), "new")) // held back, until the end
	s.end(id, records.End{Status: records.StatusCompleted, Ended: at("12:00:09.000")})
	write(1, 1, one, two, four, five)
	select {
	case code := <-done:
		require.Equal(t, ExitOK, code, out.String())
	case <-time.After(time.Minute):
		t.Fatal("logs -f does not end with the run")
	}
	got := messages(out.String())
	require.ElementsMatch(t, []string{"one", "two", "three", "four", "five", "new"}, append(got, missing(got, "five")...))
	require.Equal(t, "new", got[len(got)-1])
}

// missing is a word unless it is there: what is written after the end may come too late.
func missing(got []string, word string) []string {
	if strings.Contains(strings.Join(got, " "), word) {
		return nil
	}
	return []string{word}
}

// TestFollowingIsInterrupted shows what was held back before it ends.
func TestFollowingIsInterrupted(t *testing.T) {
	t.Parallel()
	s := newShapes(t)
	s.flow = gridFlow(flow.Fan{})
	const id = "20260104-130000-00fffff"
	s.start(id, at("12:00:00.000"), nil)
	s.doc(records.LogKey("TrainFlow", id, "fit", flow.Index{1}, 1, false), logAt(time.Now(), "first")+"\n")
	ctx, cancel := context.WithCancel(t.Context())
	out := &output{}
	done := make(chan int, 1)
	go func() {
		done <- App{Flows: []*flow.Flow{s.flow}}.Run(ctx, []string{"logs", "-f", "TrainFlow/" + id}, IO{Out: out, Err: out, Env: s.env})
	}()
	wait(t, out, "first")
	require.Contains(t, s.run(t, "logs", "TrainFlow/"+id+"/fit[1]").out, "first", "nothing but its log tells of the task")
	require.Equal(t, ExitNotFound, s.run(t, "logs", "TrainFlow/"+id+"/fit[2]").code)
	cancel()
	require.Equal(t, ExitInterrupted, <-done)
}

// TestMergedLogsAreBounded has more logs than are kept in memory: those that are read again come in the same order.
func TestMergedLogsAreBounded(t *testing.T) {
	t.Parallel()
	s := newShapes(t)
	s.flow = gridFlow(flow.Fan{})
	const id = "20260104-140000-00fffff"
	s.start(id, at("12:00:00.000"), nil)
	long := strings.Repeat("x", 1<<20)
	n := 2*keepLogs>>20 + 3
	for i := range n {
		s.doc(records.LogKey("TrainFlow", id, "fit", flow.Index{i}, 1, false),
			logAt(at("12:00:00.000").Add(time.Duration(n-i)*time.Minute), long+fmt.Sprintf(" a%d", i))+"\n"+
				logAt(at("12:00:00.000").Add(time.Duration(n-i)*time.Minute+90*time.Second), fmt.Sprintf("b%d", i))+"\n")
	}
	got := s.run(t, "logs", "TrainFlow/"+id)
	require.Equal(t, ExitOK, got.code, got.err)
	var want []string
	for i := n; i > -2; i-- { // that of the second line comes between those of the two tasks that began later
		if i > 0 {
			want = append(want, fmt.Sprintf("a%d", i-1))
		}
		if i < n {
			want = append(want, fmt.Sprintf("b%d", i))
		}
		if i == 0 {
			break
		}
	}
	require.Equal(t, want, messages(got.out))
}
