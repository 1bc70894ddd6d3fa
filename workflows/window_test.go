package workflows

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// queue is a server whose workers run up to slots tasks at the same time, with a window in front of it. Each task takes one tick.
// It returns how many were under way in each tick, and how many of all had to wait for a tick or more.
func queue(w *window, slots, ticks int) (widths []int, waited, all int) {
	waiting := 0 // tasks in the server's queue
	for range ticks {
		fresh := max(0, w.now()-waiting)
		under := waiting + fresh
		widths = append(widths, under)
		late := min(waiting, slots)
		begun := min(under, slots)
		for i := range begun {
			w.heard(i < late, under)
		}
		waited, all = waited+late, all+begun
		waiting = under - begun
	}
	return widths, waited, all
}

func TestWindowFindsWhatTheWorkersCanRun(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		least := rapid.IntRange(1, 100).Draw(t, "least")
		slots := rapid.IntRange(least, widest).Draw(t, "slots")
		widths, waited, all := queue(newWindow(least), slots, 400)
		require.Equal(t, least, widths[0])
		most, sum := 0, 0
		for _, n := range widths[50:] {
			require.GreaterOrEqual(t, n, least)
			require.LessOrEqual(t, n, widest)
			most, sum = max(most, n), sum+min(n, slots)
		}
		require.GreaterOrEqual(t, most, slots, "all slots are used")
		require.GreaterOrEqual(t, sum, slots*len(widths[50:])*3/4, "most of the time")
		if slots >= 8 { // of so few, one more is many
			require.LessOrEqual(t, waited, all/4, "few wait")
		}
	})
}

// What was learned nobody asked for: fewer tasks than the window has room for say nothing.
func TestWindowThatIsNotFullStays(t *testing.T) {
	t.Parallel()
	w := newWindow(16)
	for range 1000 {
		w.heard(false, 15)
	}
	require.Equal(t, 16, w.now())
}

// However long it was as wide as can be, it goes on to learn.
func TestWindowOfALongFanOut(t *testing.T) {
	t.Parallel()
	w := newWindow(16)
	for range 100_000 {
		w.heard(false, widest)
	}
	require.Equal(t, widest, w.now())
	w.learned(16)
	for range 16 {
		w.heard(false, 16)
	}
	require.Greater(t, w.now(), 16)
}

func TestNoWindow(t *testing.T) {
	t.Parallel()
	var w *window
	w.heard(true, 1)
	w.learned(5)
	require.Zero(t, w.now())
}

func TestWindowLearns(t *testing.T) {
	t.Parallel()
	w := newWindow(16)
	w.learned(40)
	require.Equal(t, 40, w.now())
	w.heard(true, 40)
	require.Equal(t, 34, w.now(), "back by a quarter of what it has grown")
	w.heard(true, 40)
	require.Equal(t, 34, w.now(), "once for all that were under way")
	w.learned(0)
	require.Equal(t, 16, w.now(), "of one that knew nothing")
	w.learned(9999)
	require.Equal(t, widest, w.now())
}
