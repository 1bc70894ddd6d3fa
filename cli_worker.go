package stepwell

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func (c *command) devCmd() *cobra.Command {
	var taskQueue, metrics string
	cmd := &cobra.Command{
		Use: "dev", Short: "Run the embedded Temporal server, its Web UI and a worker until interrupted",
		Example: c.examples(
			"dev                         other calls in this directory share the server while it runs",
			"dev --task-queue stepwell   with a worker for this task queue"),
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.app.Dev == nil {
				return inputf("this program has no embedded server (set stepwell.App.Dev to devserver.Start)")
			}
			if _, configured, err := c.temporalOptions(); err != nil || configured {
				return errors.Join(err, inputf("a Temporal server is configured, dev is for the embedded one (unset TEMPORAL_ADDRESS and --address, or use worker)"))
			}
			c.serveMetrics(metrics)
			return c.work(cmd.Context(), WorkerOptions{TaskQueue: taskQueue})
		},
	}
	cmd.Flags().StringVar(&taskQueue, "task-queue", DefaultTaskQueue, "task queue of the worker")
	metricsFlag(cmd, &metrics)
	c.withLogFormat(cmd)
	return cmd
}

func (c *command) workerCmd() *cobra.Command {
	var o WorkerOptions
	var metrics string
	cmd := &cobra.Command{
		Use: "worker", Short: "Run a worker until it is told to stop; SIGTERM drains it",
		Example: c.examples(
			"worker --address temporal:7233 --store s3://bucket/prefix   a worker of a cluster",
			"worker --max-concurrent 4 --drain 2m                        for steps that compute for minutes"),
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.serveMetrics(metrics)
			return c.work(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.TaskQueue, "task-queue", DefaultTaskQueue, "task queue to poll")
	f.IntVar(&o.MaxConcurrent, "max-concurrent", 0, "how many steps run at once (default 4 per processor, at least 16)")
	f.DurationVar(&o.Drain, "drain", 25*time.Second, "how long running steps may go on after SIGTERM")
	metricsFlag(cmd, &metrics)
	c.withLogFormat(cmd)
	return cmd
}

func (c *command) work(ctx context.Context, o WorkerOptions) error {
	if err := checkFlows(c.app.Flows); err != nil {
		return err
	}
	if o.MaxConcurrent < 0 || o.Drain < 0 {
		return inputf("--max-concurrent and --drain cannot be negative")
	}
	s, err := c.connect(ctx, o.TaskQueue)
	if err != nil {
		return err
	}
	defer s.close()
	o.Log, o.Classify, o.Redact, o.Meter, o.Embedded = c.stepLog(), c.app.Classify, c.app.Redact, c.observing.meter, s.dev != nil
	w, err := NewWorker(s.temporal, s.store, o, c.app.Flows...)
	if err != nil {
		return err
	}
	if err := w.Start(); err != nil {
		return &unusableError{fmt.Errorf("start the worker: %w", err)}
	}
	if s.webUI != "" {
		fmt.Fprintf(c.io.Out, "Temporal server %s\nTemporal Web UI %s\n", s.dev.Address, s.webUI)
	}
	if u := c.observing.export.URL(); u != "" {
		fmt.Fprintf(c.io.Out, "metrics %s\n", u)
	}
	fmt.Fprintf(c.io.Out, "worker for %s polls task queue %q, store %s\n", strings.Join(c.app.names(), ", "), o.TaskQueue, s.store)
	<-ctx.Done()
	fmt.Fprintln(c.io.Out, "stopping: running steps may finish")
	w.Stop()
	return nil
}

// startWorker runs a worker for all flows in this process.
func (c *command) startWorker(s *session, taskQueue string, log slog.Handler) (stop func(), _ error) {
	w, err := NewWorker(s.temporal, s.store, WorkerOptions{
		TaskQueue: taskQueue, Embedded: s.dev != nil, Drain: 2 * time.Second,
		Log: log, Classify: c.app.Classify, Redact: c.app.Redact, Meter: c.observing.meter,
	}, c.app.Flows...)
	if err != nil {
		return nil, err
	}
	if err := w.Start(); err != nil {
		return nil, &unusableError{fmt.Errorf("start the worker: %w", err)}
	}
	return w.Stop, nil
}

// stepLog shows what the steps of any run log.
func (c *command) stepLog() slog.Handler {
	if c.set.logFormat == logJSON {
		return newJSONLog(&c.term.err)
	}
	return newLineHandler(&c.term.err, c.term.err.style, true)
}

// followedLog hands what the steps of a followed run log to its follower.
func (c *command) followedLog() slog.Handler {
	if c.set.logFormat == logJSON {
		return newJSONLog(&c.term.err)
	}
	return &lineHandler{emit: c.lines.add}
}

// warnUnpolled says at once that nothing would happen, instead of waiting in silence.
func (c *command) warnUnpolled(ctx context.Context, s *session, taskQueue string) {
	polled, err := s.client.Polled(ctx, taskQueue)
	if err == nil && !polled {
		fmt.Fprintf(c.io.Err, "warning: no worker polls task queue %q, so nothing runs until one does (start one: worker --task-queue %s)\n", taskQueue, taskQueue)
	}
}
