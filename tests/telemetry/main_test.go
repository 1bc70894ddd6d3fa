// Package telemetry runs programs that are traced and measured, with a collector in the test's own process.
package telemetry

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
	tracecollector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/devserver"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/tests/testserver"
)

func TestMain(m *testing.M) {
	testserver.Main(m, stepwell.App{Flows: []*flow.Flow{tracedFlow(), troubledFlow()}, Dev: devserver.Start})
}

type traced struct {
	Items []int
	Item  int
	Sum   int
	Blob  []byte // too large to be in a record
}

// tracedFlow has a step whose first attempt fails, and a foreach.
func tracedFlow() *flow.Flow {
	return flow.New("TracedFlow",
		flow.Step("flaky", func(ctx context.Context, s *traced) error {
			_, span := otel.Tracer("author").Start(ctx, "author's own")
			defer span.End()
			flow.Log(ctx).InfoContext(ctx, "at work", "number", 7)
			if flow.Current(ctx).Attempt == 1 {
				return flow.Transient(errors.New("not yet"))
			}
			s.Blob, s.Items = bytes.Repeat([]byte("stepwell"), 4096), []int{1, 2, 3}
			return nil
		}, policies.Retry{MaximumAttempts: 3, InitialInterval: 10 * time.Millisecond}),
		flow.Foreach("squares", func(s *traced) []int { return s.Items }, func(s *traced, i int) { s.Item = i },
			flow.Step("square", func(_ context.Context, s *traced) error {
				s.Item *= s.Item
				return nil
			}),
		).Join("sum", func(_ context.Context, s *traced, in flow.Inputs[traced]) error {
			for _, one := range in.All() {
				s.Sum += one.Item
			}
			return nil
		}),
	)
}

type troubled struct {
	Items  []int
	Item   int
	Parent string
}

// troubledFlow has a step that waits for a service once, one that is caught, a batch of four items of which one fails for good, and a
// step that calls a service whose breaker opens, and fails.
func troubledFlow() *flow.Flow {
	return flow.New("TroubledFlow",
		flow.Step("waits", func(ctx context.Context, s *troubled) error {
			if s.Items = []int{0, 1, 2, 3}; flow.Current(ctx).Attempt > 1 {
				return nil
			}
			return policies.WithDeferral(errors.New("asleep"), policies.Deferral{For: 10 * time.Millisecond, Reason: "it sleeps"})
		}),
		flow.Step("caught", func(context.Context, *troubled) error {
			return policies.WithClass(errors.New("never"), policies.Permanent)
		},
			policies.Catch(func(context.Context, *troubled, *policies.Failure) error { return nil })),
		flow.Foreach("grid", func(s *troubled) []int { return s.Items }, func(s *troubled, i int) { s.Item = i },
			flow.Step("fit", func(_ context.Context, s *troubled) error {
				if s.Item == 2 {
					return policies.WithClass(errors.New("singular"), policies.Permanent)
				}
				return nil
			}),
		).With(flow.Fan{Batch: 4, Tolerate: flow.Percent(50)}).Join("best", func(context.Context, *troubled, flow.Inputs[troubled]) error {
			return nil
		}),
		flow.Exec("script", func(*troubled) flow.Command {
			return flow.Command{Args: []string{"sh", "-c", `printf %s "$TRACEPARENT" > "$STEPWELL_OUT/Parent"`}, Out: []string{"Parent"}}
		}),
		flow.Step("apart", func(ctx context.Context, s *troubled) error {
			_, id, _ := strings.Cut(strings.TrimPrefix(s.Parent, "00-"), "-")
			flow.Log(ctx).Info("parents", "script", strings.TrimSuffix(id, "-01"), "apart", trace.SpanContextFromContext(ctx).SpanID().String())
			return nil
		}, flow.Isolated{}),
		flow.Step("calls", func(context.Context, *troubled) error { return flow.Transient(errors.New("broken")) },
			policies.Dependency{Name: "model", Breaker: policies.Breaker{Failures: 1, Cooldown: time.Hour}}),
	)
}

// collector takes spans like an OpenTelemetry collector.
type collector struct {
	tracecollector.UnimplementedTraceServiceServer
	address string

	mu    sync.Mutex
	spans []*tracepb.Span
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &collector{address: l.Addr().String()}
	s := grpc.NewServer()
	tracecollector.RegisterTraceServiceServer(s, c)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return c
}

// env makes programs send to the collector.
func (c *collector) env() []string {
	return []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + c.address, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_TRACES_EXPORTER=otlp",
		"OTEL_BSP_SCHEDULE_DELAY=50", // else all is sent at the end, and a slow machine cannot in two seconds
	}
}

// Export implements the collector's service.
func (c *collector) Export(_ context.Context, r *tracecollector.ExportTraceServiceRequest) (*tracecollector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range r.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
	return &tracecollector.ExportTraceServiceResponse{}, nil
}

func (c *collector) all() []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spans
}

// wait waits until a span has arrived, and with it those that its process ended before.
func (c *collector) wait(t *testing.T, name string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(c.all(), func(s *tracepb.Span) bool { return s.GetName() == name })
	}, time.Minute, 10*time.Millisecond)
}

// program is the starter or the worker as a process of its own.
type program struct {
	*exec.Cmd
	out, err output
	done     chan struct{}
}

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func start(t *testing.T, kind string, env []string, args ...string) *program {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	p := &program{Cmd: exec.Command(self, args...), done: make(chan struct{})}
	p.Dir, p.Stdout, p.Stderr = dir, &p.out, &p.err
	p.Env = append([]string{testserver.Program + "=" + kind, "PATH=" + os.Getenv("PATH"), "HOME=" + dir, "NO_COLOR=1"}, env...)
	require.NoError(t, p.Start())
	go func() {
		_ = p.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("%s %s\nstdout:\n%s\nstderr:\n%s", kind, strings.Join(args, " "), p.out.String(), p.err.String())
		}
	})
	return p
}

// exit waits for the end of the process and returns its exit code.
func (p *program) exit(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
		return p.ProcessState.ExitCode()
	case <-time.After(3 * time.Minute):
		t.Fatalf("%v did not end", p.Args[1:])
		return -1
	}
}

// stop tells the process to end in peace.
func (p *program) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	require.Zero(t, p.exit(t))
}

// line waits for a line of the output that begins with prefix, and returns the rest.
func (p *program) line(t *testing.T, prefix string) string {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		for line := range strings.Lines(p.out.String()) {
			if rest, ok := strings.CutPrefix(line, prefix); ok && strings.HasSuffix(rest, "\n") {
				return strings.TrimSpace(rest)
			}
		}
	}
	t.Fatalf("no line of the output begins with %q", prefix)
	return ""
}

func serverEnv(t *testing.T) []string {
	t.Helper()
	s := testserver.Get(t)
	return []string{"TEMPORAL_ADDRESS=" + s.Address, "TEMPORAL_NAMESPACE=" + s.Namespace}
}
