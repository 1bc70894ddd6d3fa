package main

import (
	"bytes"
	"flag"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

var update = flag.Bool("update", false, "write into the document what the commands print")

const document = "../../docs/planning.md"

// command is a call of this program in the document, with what it prints.
var command = regexp.MustCompile("(?s)```console\n\\$ go run ./examples/planning ([^\n]*)\n(.*?)```\n")

// TestDocument compares what docs/planning.md shows with what this program prints.
func TestDocument(t *testing.T) {
	t.Parallel()
	before, err := os.ReadFile(document)
	require.NoError(t, err)
	calls := 0
	after := command.ReplaceAllStringFunc(string(before), func(block string) string {
		calls++
		args := command.FindStringSubmatch(block)[1]
		var out, errs bytes.Buffer
		code := app().Run(t.Context(), strings.Fields(args), stepwell.IO{Out: &out, Err: &errs, Env: func(string) (string, bool) { return "", false }})
		require.Equal(t, stepwell.ExitOK, code, errs.String())
		want := "```console\n$ go run ./examples/planning " + args + "\n" + out.String() + "```\n"
		if !*update {
			require.Equal(t, want, block, "go test ./examples/planning -update writes it anew")
		}
		return want
	})
	require.Equal(t, 7, calls)
	if *update {
		require.NoError(t, os.WriteFile(document, []byte(after), 0o644))
	}
}

// TestDocumentReckonsRight compares the numbers of its text.
func TestDocumentReckonsRight(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(document)
	require.NoError(t, err)
	text := strings.Join(strings.Fields(string(b)), " ")
	say := func(sentence string) { require.Contains(t, text, sentence) }

	plan := func(attempts int, rate float64) policies.Explanation {
		r := call.Retry
		r.MaximumAttempts = attempts
		e, err := policies.Explain(policies.NewSpec(&r, &policies.Timeout{Attempt: call.Timeout}, nil), policies.Assumptions{FailureRate: rate, AttemptTime: call.Timeout})
		require.NoError(t, err)
		return e
	}
	require.Equal(t, 750*time.Millisecond, plan(3, 0.11).Worst)
	require.LessOrEqual(t, plan(3, 0.11).Worst, call.Patience)
	say("they are at most 50 and 100 ms: 750 ms in all")
	require.Equal(t, 1150*time.Millisecond, plan(4, 0.11).Worst)
	say("A fourth attempt would end at 1150 ms")
	require.Equal(t, int64(431), plan(3, 0.11).P95.Round(time.Millisecond).Milliseconds())
	say("431 ms is well below 800 ms")
	require.InDelta(t, 1.122, plan(3, 0.11).ExpectedAttempts, 5e-4)
	say("each call costs 1.122 attempts: 12% more load")
	require.InDelta(t, 0.13, 100*(1-plan(3, 0.11).Success), 5e-3)
	say("in 0.13% of all cases")
	require.Less(t, plan(3, 0.17).ExpectedAttempts, 1.2)
	require.Greater(t, plan(3, 0.18).ExpectedAttempts, 1.2)
	say("With 17% of failures it is just enough")
	require.InDelta(t, 97.3, 100*plan(3, 0.3).Success, 0.05)
	require.InDelta(t, 1.39, plan(3, 0.3).ExpectedAttempts, 5e-3)
	say("97.3% of answers with 39% more load")
	say("`--resumes 1` makes it 18")
}

// TestFlow lets each request fail once.
func TestFlow(t *testing.T) {
	t.Parallel()
	fake := flowtest.NewFake(t)
	fake.EachKey(flowtest.Reply{Status: http.StatusServiceUnavailable}, flowtest.Reply{Body: `{"probability": 0.25}`, Header: http.Header{"Content-Type": {"application/json"}}})
	run := flowtest.Run(t, Flow(), flowtest.Options{Params: map[string]string{"server": fake.URL()}, Prepare: fake.Prepare})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	last, err := run.Last(t.Context())
	require.NoError(t, err)
	p, err := runs.Load[float64](t.Context(), last, "Probability")
	require.NoError(t, err)
	require.InDelta(t, 0.25, p, 0)
	require.Len(t, fake.ByKey(), 3, "each step has its key, and all attempts have it, too")
	for key, requests := range fake.ByKey() {
		require.Len(t, requests, 2, key)
	}
}
