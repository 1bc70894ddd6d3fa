package stepwell

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/runs"
)

func (c *command) listCmd() *cobra.Command  { return &cobra.Command{Use: "list"} }
func (c *command) showCmd() *cobra.Command  { return &cobra.Command{Use: "show"} }
func (c *command) whyCmd() *cobra.Command   { return &cobra.Command{Use: "why"} }
func (c *command) logsCmd() *cobra.Command  { return &cobra.Command{Use: "logs"} }
func (c *command) dumpCmd() *cobra.Command  { return &cobra.Command{Use: "dump"} }
func (c *command) cardCmd() *cobra.Command  { return &cobra.Command{Use: "card"} }
func (c *command) checkCmd() *cobra.Command { return &cobra.Command{Use: "check"} }
func (c *command) graphCmd() *cobra.Command { return &cobra.Command{Use: "graph"} }

type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer) *table { return &table{tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)} }

func (t *table) row(cells ...string) { fmt.Fprintln(t.w, strings.Join(cells, "\t")) }

func (t *table) flush() { _ = t.w.Flush() }

type lineHandler struct {
	out io.Writer
}

func (h *lineHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	fmt.Fprintln(h.out, r.Message)
	return nil
}
func (h *lineHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h *lineHandler) WithGroup(string) slog.Handler      { return h }

func describeRun(r *runs.Run) any { return r }

func (c *command) follow(ctx context.Context, s *session, run *runs.Run) error {
	_, err := s.client.Wait(ctx, run.Flow, run.Run.Run)
	return err
}
