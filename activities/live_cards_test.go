package activities

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
)

// However often a step says that its card has changed, the work is done at a bearable pace, and what came last is not forgotten.
func TestPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var at []time.Duration
		took := time.Duration(0)
		p := &pace{first: time.Second, every: 5 * time.Second, do: func() time.Duration {
			at = append(at, time.Since(began))
			return took
		}}
		for range 100 { // ten seconds
			p.mark()
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, []time.Duration{time.Second, 6 * time.Second, 11 * time.Second}, at)

		// What takes long is done less often: a card costs less than a hundredth of a core, however large it is.
		at, took = nil, time.Second
		for range 5000 {
			p.mark()
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		require.Len(t, at, 6)
		require.GreaterOrEqual(t, at[2]-at[1], 100*took)

		p.mark()
		p.stop()
		p.mark()
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Len(t, at, 6, "nothing is done after the end")
	})
}

// A step whose work is over at once writes no card but the last.
func TestShortStepsWriteNoLiveCard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pace{first: time.Second, every: 5 * time.Second, do: func() time.Duration { panic("written") }}
		p.mark()
		time.Sleep(900 * time.Millisecond)
		p.stop()
		time.Sleep(time.Hour)
	})
}

func TestSlowCardIsLeftBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		slow := flow.CardSpec{Name: "slow", Render: func(io.Writer, *flow.CardData) error {
			<-release
			return errors.New("nobody listens")
		}}
		began := time.Now()
		_, err := renderWithin(cardLimit, slow, flow.CardData{})
		require.ErrorContains(t, err, "took longer than 45s")
		require.Equal(t, cardLimit, time.Since(began))
	})
}

func TestHugeCardIsRefused(t *testing.T) {
	t.Parallel()
	endless := flow.CardSpec{Name: "endless", Render: func(w io.Writer, _ *flow.CardData) error {
		for block := make([]byte, 1<<20); ; {
			if _, err := w.Write(block); err != nil {
				return err
			}
		}
	}}
	_, err := renderWithin(cardLimit, endless, flow.CardData{})
	require.ErrorContains(t, err, "larger than 64 MiB")
}
