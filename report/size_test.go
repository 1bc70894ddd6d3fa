package report_test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/report"
)

// BenchmarkPagesOfARunWithManyTasks measures pages of a directory store, whose files the operating system has in memory. Set
// STEPWELL_ITEMS for another number than 1,000.
func BenchmarkPagesOfARunWithManyTasks(b *testing.B) {
	items := 1000
	if n, err := strconv.Atoi(os.Getenv("STEPWELL_ITEMS")); err == nil {
		items = n
	}
	l := newLab(b, grid(flow.Fan{}))
	began := time.Now()
	l.failed("r1", items)
	b.Logf("wrote %d items in %s", items, time.Since(began))
	page := func(name string, write func(*bytes.Buffer) error) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var page bytes.Buffer
				require.NoError(b, write(&page))
				b.ReportMetric(float64(page.Len()), "bytes/page")
				if dir := os.Getenv("STEPWELL_PAGES"); dir != "" {
					require.NoError(b, os.WriteFile(fmt.Sprintf("%s/%s-%d.html", dir, name, items), page.Bytes(), 0o600))
				}
			}
		})
	}
	page("run", func(w *bytes.Buffer) error {
		return report.Run(b.Context(), w, l.run("r1"), report.Options{Link: links})
	})
	page("foreach", func(w *bytes.Buffer) error {
		f, err := l.run("r1").Foreach(b.Context(), "grid")
		if err != nil {
			return err
		}
		return report.Foreach(b.Context(), w, f, report.Options{Link: links})
	})
	page("task", func(w *bytes.Buffer) error {
		t, err := l.run("r1").Task(b.Context(), "fit[3]")
		if err != nil {
			return err
		}
		return report.Task(b.Context(), w, t, report.Options{Link: links})
	})
}
