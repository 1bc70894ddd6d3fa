// Package bench measures the speed rules. Each benchmark runs what Stepwell adds something to and the same thing without
// Stepwell, in turns, in one go: the ratio says something on a busy or slow machine too, where times alone do not.
// The README says how to run and read it.
package bench

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// build builds a program of this module into dir.
func build(b *testing.B, dir, name string) string {
	b.Helper()
	program := filepath.Join(dir, filepath.Base(name))
	cmd := exec.CommandContext(b.Context(), "go", "build", "-buildvcs=false", "-o", program, "github.com/stepwell-flows/stepwell/"+name)
	output, err := cmd.CombinedOutput()
	require.NoError(b, err, "%s", output)
	return program
}

// inTurn calls ours and theirs. Which of them comes first changes from round to round, so that neither always finds what
// the other has left behind.
func inTurn(round int, ours, theirs func()) {
	if round%2 == 0 {
		ours()
		theirs()
	} else {
		theirs()
		ours()
	}
}

// median is the middle value, of an even number of values the upper of the two.
func median[T time.Duration | float64](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// report prints a line that can be read without the metrics around it, and leaves out the time of the whole benchmark,
// which says nothing.
func report(b *testing.B, format string, args ...any) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	fmt.Fprintf(b.Output(), format+"\n", args...)
}

// verdict says whether a goal was met. A goal that was missed is no failure: the machine may be busy.
func verdict(met bool) string {
	if met {
		return "met"
	}
	return "MISSED"
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
