package telemetry

import (
	"encoding/hex"
	"encoding/json"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/internal/minio"
)

// attribute is the text or number of a span's attribute as text, "" if it has none.
func attribute(s *tracepb.Span, key string) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == key {
			if v := a.GetValue(); v.GetStringValue() != "" {
				return v.GetStringValue()
			}
			b, _ := json.Marshal(a.GetValue().GetIntValue())
			return string(b)
		}
	}
	return ""
}

// A worker, a starter, an S3 server and a collector, each a process or a server of its own: what they send is one tree.
func TestTraceOfARun(t *testing.T) {
	c := newCollector(t)
	m, err := minio.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(m.Close)
	bucket, err := m.NewBucket(t.Context())
	require.NoError(t, err)
	env := slices.Concat(serverEnv(t), m.Env(), c.env(), []string{"STEPWELL_STORE=" + m.Location(bucket, "traced")})

	worker := start(t, "worker", env, "--task-queue", t.Name(), "--log-format", "json")
	worker.line(t, "worker for TracedFlow, TroubledFlow polls")
	starter := start(t, "starter", env, "run", "TracedFlow", "--task-queue", t.Name())
	require.Equal(t, stepwell.ExitOK, starter.exit(t))
	c.wait(t, "run TracedFlow")
	worker.stop(t)

	spans := c.all()
	byID, byName := map[string]*tracepb.Span{}, map[string][]*tracepb.Span{}
	for _, s := range spans {
		require.NotContains(t, byID, string(s.GetSpanId()), "%s was sent twice", s.GetName())
		byID[string(s.GetSpanId())] = s
		byName[s.GetName()] = append(byName[s.GetName()], s)
		require.Equal(t, spans[0].GetTraceId(), s.GetTraceId(), "%s is in another trace", s.GetName())
	}
	parent := func(s *tracepb.Span) *tracepb.Span {
		t.Helper()
		p := byID[string(s.GetParentSpanId())]
		require.NotNil(t, p, "the parent of %s is missing", s.GetName())
		return p
	}
	count := map[string]int{}
	for name, all := range byName {
		if !strings.HasPrefix(name, "S3.") {
			count[name] = len(all)
		}
	}
	require.Equal(t, map[string]int{
		"start TracedFlow": 1, "run TracedFlow": 1, "step flaky": 1, "attempt flaky": 2, "author's own": 2,
		"step square": 3, "attempt square": 3, "step sum": 1, "attempt sum": 1,
	}, count)

	root := byName["start TracedFlow"][0]
	require.Empty(t, root.GetParentSpanId())
	run := byName["run TracedFlow"][0]
	require.Equal(t, root, parent(run))
	require.Equal(t, "completed", attribute(run, "stepwell.outcome"))
	for _, s := range spans {
		kind, step, _ := strings.Cut(s.GetName(), " ")
		switch kind {
		case "step":
			require.Equal(t, run, parent(s))
			require.Equal(t, "completed", attribute(s, "stepwell.outcome"))
		case "attempt":
			require.Equal(t, "step "+step, parent(s).GetName())
			require.Equal(t, attribute(parent(s), "stepwell.task"), attribute(s, "stepwell.task"))
			require.LessOrEqual(t, parent(s).GetStartTimeUnixNano(), s.GetStartTimeUnixNano())
		case "author's":
			require.Equal(t, "attempt flaky", parent(s).GetName())
		}
		if strings.HasPrefix(s.GetName(), "S3.") {
			require.Regexp(t, "^(start|attempt) ", parent(s).GetName())
			require.Equal(t, bucket, attribute(s, "aws.s3.bucket"))
			require.NotEmpty(t, attribute(s, "http.response.status_code"), s.GetName())
		}
	}
	below := func(s *tracepb.Span, name string) (keys []string) {
		for _, child := range byName[name] {
			if string(child.GetParentSpanId()) == string(s.GetSpanId()) {
				keys = append(keys, attribute(child, "aws.s3.key"))
			}
		}
		return keys
	}
	id := attribute(run, "stepwell.run")
	require.Contains(t, below(root, "S3.PutObject"), "traced/flows/TracedFlow/"+id+"/run.json")
	for _, s := range byName["attempt square"] {
		require.Contains(t, strings.Join(below(s, "S3.PutObject"), " "), "traced/flows/TracedFlow/"+id+"/tasks/square/")
	}
	flaky := map[string]string{}
	for _, s := range byName["attempt flaky"] {
		flaky[attribute(s, "stepwell.attempt")] = attribute(s, "stepwell.outcome") + " " + attribute(s, "stepwell.class")
	}
	require.Equal(t, map[string]string{"1": "failed Transient", "2": "completed "}, flaky)

	// What the step logged says where it belongs.
	var logged int
	for line := range strings.Lines(worker.err.String()) {
		var entry struct {
			Msg, Flow, Run, Step, Task string
			Attempt                    int
			TraceID                    string `json:"trace_id"`
			SpanID                     string `json:"span_id"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &entry), line)
		if entry.Msg != "at work" {
			continue
		}
		logged++
		require.Equal(t, []string{"TracedFlow", id, "flaky", "flaky"}, []string{entry.Flow, entry.Run, entry.Step, entry.Task})
		require.Equal(t, logged, entry.Attempt)
		require.Equal(t, hex.EncodeToString(root.GetTraceId()), entry.TraceID)
		span, err := hex.DecodeString(entry.SpanID)
		require.NoError(t, err)
		require.Equal(t, "attempt flaky", byID[string(span)].GetName())
	}
	require.Equal(t, 2, logged)
}

// A collector that is not there costs a run nothing but a line.
func TestCollectorIsAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			env := []string{
				"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + address, "OTEL_EXPORTER_OTLP_PROTOCOL=" + protocol,
				"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=" + protocol, "OTEL_TRACES_EXPORTER=otlp", "OTEL_METRICS_EXPORTER=otlp",
			}
			p := start(t, "starter", env, "run", "TracedFlow")
			require.Equal(t, stepwell.ExitOK, p.exit(t))
			require.Equal(t, 1, strings.Count(p.err.String(), "warning: telemetry: send "))
		})
	}
}
