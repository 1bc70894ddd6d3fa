package stepwell

import (
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"

	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

func TestPace(t *testing.T) {
	t.Parallel()
	start := at("12:00:00.000")
	var p pace
	require.Zero(t, p.rate(10, start))
	require.Zero(t, p.left(10, 100, start))
	p.see(10, 1, start)
	p.see(20, 1, start.Add(time.Second))
	require.Zero(t, p.rate(30, start.Add(2*time.Second)), "too early to say")
	require.InDelta(t, 2, p.rate(30, start.Add(10*time.Second)), 1e-9)
	require.Equal(t, 35*time.Second, p.left(30, 100, start.Add(10*time.Second)))
	require.Zero(t, p.left(100, 100, start.Add(10*time.Second)))
	p.see(3, 2, start.Add(time.Minute)) // another attempt begins anew
	require.Zero(t, p.rate(3, start.Add(2*time.Minute)))
	require.InDelta(t, 1, p.rate(63, start.Add(2*time.Minute)), 1e-9)

	for rate, want := range map[float64]string{12345.6: "12,346/s", 10: "10/s", 2.34: "2.3/s", 0.5: "30/min", 0.01: "36/h"} {
		require.Equal(t, want, rateText(rate))
	}
}

// Rows say the same with fewer words and shorter bars on narrow screens, and the whole of it before they are cut.
func TestRowsOnNarrowScreens(t *testing.T) {
	t.Parallel()
	now := at("12:01:00.000")
	fan := watched{name: "grid", state: runs.Running, began: true, started: at("12:00:00.000"),
		fan: &fanCount{items: 1200, completed: 598, failed: 2, since: at("12:00:30.000"), from: 300}}
	step := watched{name: "fit", spec: policies.Spec{MaximumAttempts: 1}, state: runs.Running, began: true, started: at("12:00:00.000"),
		pending: &runs.Pending{Attempt: 1, Running: true, Done: 2500, Total: 5000}, pace: pace{at("12:00:40.000"), 500, 1}}
	for _, test := range []struct {
		width     int
		grid, fit string
	}{
		{120, "● grid  1m  ━━━━━━━━━━────────── 600 of 1,200 items done, 2 failed, 10/s, about 1m left", "● fit  1m  ━━━━━━━━━━────────── 2,500/5,000, 100/s, about 25s left"},
		{70, "● grid  1m  ━━━━━───── 600/1,200, 2 failed, 10/s, 1m left", "● fit  1m  ━━━━━───── 2,500/5,000, 100/s, 25s left"},
		{59, "● grid  1m  ━━━━━───── 600/1,200, 2 failed, 1m left", "● fit  1m  ━━━━━───── 2,500/5,000, 25s left"},
		{39, "● grid  1m  50% 600/1,200, 2 failed, …", "● fit  1m  50% 2,500/5,000, 25s left"},
	} {
		require.Equal(t, []string{test.grid}, block([]watched{fan}, now, style{}, test.width, 24))
		require.Equal(t, []string{test.fit}, block([]watched{step}, now, style{}, test.width, 24))
	}
	for width := 1; width < 130; width++ {
		for _, line := range block([]watched{fan, step}, now, style{colour: true}, width, 24) {
			require.LessOrEqual(t, lipgloss.Width(line), max(width-1, 1), strings.TrimSpace(line))
		}
	}
}

// tells says what the pending task told by its heartbeat.
func (s *stage) tells(done, total int64) {
	s.Helper()
	details, err := converter.GetDefaultDataConverter().ToPayloads(map[string]int64{"done": done, "total": total})
	require.NoError(s, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	next := proto.CloneOf(s.pending)
	next.HeartbeatDetails = details
	s.pending = next
}

// What a step tells by flow.Progress is a bar on a screen, and nothing in a pipe.
func TestFollowProgress(t *testing.T) {
	t.Parallel()
	for width, want := range map[int]string{0: "", 120: "━━━━━━━━━━────────── 1,000/2,000", 50: "━━━━━───── 1,000/2,000", 30: "50% 1,"} {
		s := newStage(t)
		c, out, _ := newOutputs()
		for _, st := range []*stream{&c.term.out, &c.term.err} {
			st.screen, st.size = width > 0, func() (int, int) { return width, 20 }
		}
		s.pend("load", 1, true)
		s.tells(1000, 2000)
		done := s.follow(t.Context(), c, true)
		if width > 0 {
			wait(t, out, want)
		} else {
			wait(t, out, "load started")
		}
		now := time.Now()
		s.task(playedRun, "load", trainState{}, now, now, nil)
		s.end(playedRun, records.End{Status: records.StatusCancelled, Ended: now})
		close(s.ended)
		require.Error(t, result1(t, done))
		if width == 0 {
			require.NotContains(t, out.String(), "━")
			require.NotContains(t, out.String(), "2,000")
		}
	}
}
