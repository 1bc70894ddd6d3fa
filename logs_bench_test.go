package stepwell

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// firstWrite notes when the first byte came.
type firstWrite struct {
	bytes.Buffer
	at time.Time
}

func (w *firstWrite) Write(p []byte) (int, error) {
	if w.at.IsZero() {
		w.at = time.Now()
	}
	return w.Buffer.Write(p)
}

// BenchmarkLogs reads the logs of a foreach of 10,000 items with two steps, in a directory. It tells when the first line is printed.
func BenchmarkLogs(b *testing.B) {
	dir := b.TempDir()
	store, err := artifacts.Open(b.Context(), dir, artifacts.Options{})
	require.NoError(b, err)
	f := gridFlow(flow.Fan{})
	require.NoError(b, f.Check())
	require.NoError(b, records.CreateRun(b.Context(), store, records.Run{Flow: f.Name(), Run: "r", Root: "r", Plan: f.Plan(), Started: at("12:00:00.000"), WorkflowID: "w"}))
	require.NoError(b, records.CreateEnd(b.Context(), store, f.Name(), "r", records.End{Status: records.StatusCompleted, Ended: at("13:00:00.000")}))
	for i := range 10_000 {
		for k, step := range []string{"fit", "score"} {
			path := filepath.Join(dir, records.LogKey(f.Name(), "r", step, flow.Index{i}, 1, false)) // without the store's care, which takes its time
			require.NoError(b, os.MkdirAll(filepath.Dir(path), 0o755))
			line := logAt(at("12:01:00.000").Add(time.Duration(i+10*k)*time.Millisecond), "done") + "\n"
			require.NoError(b, os.WriteFile(path, []byte(line), 0o644))
		}
	}
	for _, args := range []string{"", "/grid", "/fit", "/fit[7]", " --all", " --grep nowhere"} {
		b.Run("logs"+strings.ReplaceAll(args, " ", ""), func(b *testing.B) {
			var first time.Duration
			for b.Loop() {
				began, out := time.Now(), &firstWrite{}
				code := App{Flows: []*flow.Flow{f}}.Run(b.Context(), strings.Fields("logs TrainFlow/r"+args), IO{Out: out, Err: io.Discard, Env: func(name string) (string, bool) {
					if name == "STEPWELL_STORE" {
						return dir, true
					}
					return "", false
				}})
				require.Equal(b, ExitOK, code)
				if !out.at.IsZero() {
					first += out.at.Sub(began)
				}
			}
			b.ReportMetric(float64(first.Milliseconds())/float64(b.N), "ms/first-line")
		})
	}
}
