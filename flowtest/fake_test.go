package flowtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// ask sends a request with net/http's client.
func ask(ctx context.Context, url, key, body string) (status int, answer string, header http.Header, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, "", nil, err
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", `"`+key+`"`)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), resp.Header, err
}

// statuses asks until the script is played, and lists what came.
func statuses(t *testing.T, n int, url, key string) []int {
	t.Helper()
	var all []int
	for range n {
		status, _, _, err := ask(t.Context(), url, key, "")
		require.NoError(t, err)
		all = append(all, status)
	}
	return all
}

func TestFakePlaysItsScripts(t *testing.T) {
	t.Parallel()
	fake := flowtest.NewFake(t, flowtest.Reply{Status: 500, Times: 2}, flowtest.Reply{Status: 404})
	fake.Path("/predict", flowtest.Reply{Status: 503}, flowtest.Reply{Status: 201, Times: -1})
	fake.Key("a", flowtest.Reply{Status: 409})
	require.Equal(t, []int{500, 500, 404, 200, 200}, statuses(t, 5, fake.URL()+"/other", ""))
	require.Equal(t, []int{503, 201, 201}, statuses(t, 3, fake.URL()+"/predict", ""))
	require.Equal(t, []int{409, 201}, statuses(t, 2, fake.URL()+"/predict", "a"), "the key's script comes first")

	each := flowtest.NewFake(t)
	each.EachKey(flowtest.Reply{Status: 429}, flowtest.Reply{Status: 503})
	for _, key := range []string{"", "a", "b"} {
		require.Equal(t, []int{429, 503, 200}, statuses(t, 3, each.URL(), key), key)
	}
}

func TestFakeRemembersRequests(t *testing.T) {
	t.Parallel()
	fake := flowtest.NewFake(t, flowtest.Reply{Status: 503, Body: "busy", Header: http.Header{"X-Model": {"7"}}, RetryAfter: 1500 * time.Millisecond})
	before := time.Now()
	status, body, header, err := ask(t.Context(), fake.URL()+"/predict?v=2", "a", "rows")
	require.NoError(t, err)
	require.Equal(t, 503, status)
	require.Equal(t, "busy", body)
	require.Equal(t, "7", header.Get("X-Model"))
	require.Equal(t, "2", header.Get("Retry-After"), "rounded up")
	statuses(t, 1, fake.URL(), "")

	all := fake.Requests()
	require.Len(t, all, 2)
	r := all[0]
	require.Equal(t, "request 1 (POST /predict, key \"a\")", r.String())
	require.Equal(t, "v=2", r.Query)
	require.Equal(t, []byte("rows"), r.Body)
	require.Equal(t, artifacts.Sum([]byte("rows")), r.Digest)
	require.Equal(t, 503, r.Status)
	require.Equal(t, 2*time.Second, r.RetryAfter)
	require.Equal(t, "503, Retry-After: 2", r.Answer)
	require.WithinRange(t, r.Received, before, time.Now())
	require.False(t, r.Answered.Before(r.Received))
	require.Equal(t, []flowtest.Request{r}, fake.ByKey()["a"])
	require.Equal(t, "request 2 (POST /)", all[1].String())
	require.Equal(t, 2, all[1].Number)
}

func TestFakeDates(t *testing.T) {
	t.Parallel()
	fake := flowtest.NewFake(t, flowtest.Reply{Status: 503, RetryAfter: time.Hour, Date: true})
	before := time.Now()
	_, _, header, err := ask(t.Context(), fake.URL(), "", "")
	require.NoError(t, err)
	at, err := http.ParseTime(header.Get("Retry-After"))
	require.NoError(t, err)
	require.WithinRange(t, at, before.Add(time.Hour), time.Now().Add(time.Hour+time.Second))
	r := fake.Requests()[0]
	require.GreaterOrEqual(t, r.RetryAfter, time.Hour)
	require.LessOrEqual(t, r.RetryAfter, time.Hour+time.Second)
}

func TestFakeFaults(t *testing.T) {
	t.Parallel()
	t.Run("reset", func(t *testing.T) {
		t.Parallel()
		fake := flowtest.NewFake(t, flowtest.Reply{Fault: flowtest.FaultReset, Times: 2})
		calls := 0
		fake.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			calls++
			fmt.Fprint(w, strings.Repeat("x", 1000))
		}))
		_, _, _, err := ask(t.Context(), fake.URL(), "a", "")
		require.Error(t, err)
		require.Equal(t, policies.Transient, policies.Classify(err).Class, "%v", err)
		require.Equal(t, 1, calls, "the work was done, and the client did not repeat it by itself")
		require.Equal(t, "reset in the middle of a 200", fake.Requests()[0].Answer)
	})
	t.Run("close", func(t *testing.T) {
		t.Parallel()
		fake := flowtest.NewFake(t, flowtest.Reply{Status: 200}, flowtest.Reply{Fault: flowtest.FaultClose})
		fake.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was called") }))
		require.Equal(t, []int{200}, statuses(t, 1, fake.URL(), "a"))
		_, _, _, err := ask(t.Context(), fake.URL(), "a", "")
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, policies.Transient, policies.Classify(err).Class)
		require.Len(t, fake.Requests(), 2, "net/http repeats such a request by itself on a connection that was used before")
		require.Equal(t, "closed without an answer", fake.Requests()[1].Answer)
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		fake := flowtest.NewFake(t, flowtest.Reply{Fault: flowtest.FaultHang})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		gone := make(chan error, 1)
		go func() {
			_, _, _, err := ask(ctx, fake.URL(), "", "some content")
			gone <- err
		}()
		require.Eventually(t, func() bool { return len(fake.Requests()) == 1 }, time.Minute, time.Millisecond)
		cancel()
		require.ErrorIs(t, <-gone, context.Canceled)
		require.Eventually(t, func() bool { return !fake.Requests()[0].Answered.IsZero() }, time.Minute, time.Millisecond)
		require.Contains(t, fake.Requests()[0].Answer, "no answer: the client went away after ")
		require.Equal(t, []int{200}, statuses(t, 1, fake.URL(), ""))
	})
}

// A request that hangs does not keep a test from ending. Not parallel: the test within has to end first.
func TestFakeEndsWithTheTest(t *testing.T) {
	var fake *flowtest.Fake
	gone := make(chan error)
	t.Run("test", func(t *testing.T) {
		fake = flowtest.NewFake(t, flowtest.Reply{Fault: flowtest.FaultHang})
		url := fake.URL()
		go func() {
			_, _, _, err := ask(context.WithoutCancel(t.Context()), url, "", "")
			gone <- err
		}()
		require.Eventually(t, func() bool { return len(fake.Requests()) == 1 }, time.Minute, time.Millisecond)
	})
	require.Error(t, <-gone)
	require.Contains(t, fake.Requests()[0].Answer, "no answer: the test ended after ")
}

func TestFakeTakesItsTime(t *testing.T) {
	t.Parallel()
	const pause = 20 * time.Millisecond
	fake := flowtest.NewFake(t, flowtest.Reply{Body: "abcdefgh", Chunks: 4, Pause: pause}, flowtest.Reply{Delay: 2 * pause}, flowtest.Reply{Body: "ab", Chunks: 9})
	started := time.Now()
	_, body, _, err := ask(t.Context(), fake.URL(), "", "")
	require.NoError(t, err)
	require.Equal(t, "abcdefgh", body)
	require.GreaterOrEqual(t, time.Since(started), 3*pause)
	started = time.Now()
	statuses(t, 1, fake.URL(), "")
	require.GreaterOrEqual(t, time.Since(started), 2*pause)
	_, body, _, err = ask(t.Context(), fake.URL(), "", "")
	require.NoError(t, err)
	require.Equal(t, "ab", body, "no more parts than bytes")
	all := fake.Requests()
	require.GreaterOrEqual(t, all[0].Answered.Sub(all[0].Received), 3*pause)
	require.GreaterOrEqual(t, all[1].Answered.Sub(all[1].Received), 2*pause)

	// A client that does not wait for the rest.
	slow := flowtest.NewFake(t, flowtest.Reply{Body: "ab", Chunks: 2, Pause: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, _, err = ask(ctx, slow.URL(), "", "")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestFakeDeliversTwice(t *testing.T) {
	t.Parallel()
	fake := flowtest.NewFake(t, flowtest.Reply{Twice: true})
	var got []string
	fake.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got = append(got, r.Header.Get("Idempotency-Key")+" "+string(b))
		if len(got) > 1 {
			w.WriteHeader(http.StatusConflict)
		}
		fmt.Fprint(w, len(got))
	}))
	status, body, _, err := ask(t.Context(), fake.URL(), "a", "rows")
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.Equal(t, "1", body, "the client gets the first answer")
	require.Equal(t, []string{`"a" rows`, `"a" rows`}, got)
	all := fake.ByKey()["a"]
	require.Len(t, all, 2)
	require.False(t, all[0].Duplicate)
	require.True(t, all[1].Duplicate)
	require.Equal(t, all[0].Digest, all[1].Digest)
	require.Equal(t, 409, all[1].Status)
	require.Equal(t, "request 2 (POST /, key \"a\", delivered again)", all[1].String())
	require.Empty(t, fake.Delays("a"))
}

func TestFakeIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	fake := flowtest.NewFake(t)
	fake.EachKey(flowtest.Reply{Status: 503, Twice: true}, flowtest.Reply{Fault: flowtest.FaultReset})
	var clients sync.WaitGroup
	for i := range 20 {
		clients.Go(func() {
			key := fmt.Sprint("k", i)
			if status, _, _, err := ask(t.Context(), fake.URL(), key, ""); err != nil || status != 503 {
				t.Error(status, err)
			}
			if _, _, _, err := ask(t.Context(), fake.URL(), key, ""); err == nil {
				t.Error("it was answered")
			}
			fake.RequireRetryAfter(t)
		})
	}
	clients.Wait()
	require.Len(t, fake.Requests(), 60)
	require.Len(t, fake.ByKey(), 20)
}

// recorder is a test that fails, without the rest of it.
type recorder struct {
	testing.TB
	text string
}

func (r *recorder) Helper() {}
func (r *recorder) Fatalf(format string, args ...any) {
	r.text = fmt.Sprintf(format, args...)
}

func TestFakeTellsWhoCameEarly(t *testing.T) {
	t.Parallel()
	fake := flowtest.NewFake(t, flowtest.Reply{Status: 503, RetryAfter: time.Minute}, flowtest.Reply{Status: 429, RetryAfter: time.Hour, Date: true})
	statuses(t, 4, fake.URL()+"/predict", "a")
	statuses(t, 1, fake.URL()+"/predict", "b")
	require.Len(t, fake.Delays("a"), 3)
	require.Empty(t, fake.Delays("b"))
	r := &recorder{TB: t}
	fake.RequireRetryAfter(r)
	require.Regexp(t, `^2 of 5 requests came too early:
request 2 \(POST /predict, key "a"\) came [\d.]+m?s after the answer to request 1, which was: 503, Retry-After: 60
request 3 \(POST /predict, key "a"\) came [\d.]+m?s after the answer to request 2, which was: 429, Retry-After: \w+, .* GMT$`, r.text)

	// Without keys, requests of the same content belong together.
	fake = flowtest.NewFake(t, flowtest.Reply{Status: 503, RetryAfter: time.Minute})
	for _, body := range []string{"one", "two"} {
		_, _, _, err := ask(t.Context(), fake.URL(), "", body)
		require.NoError(t, err)
	}
	fake.RequireRetryAfter(t)
}

// askState is that of a flow whose step calls a service.
type askState struct {
	Server string `param:"server"`
	Answer string
}

func askFlow(retry policies.Retry) *flow.Flow {
	return flow.New("AskFlow", flow.Step("ask", func(ctx context.Context, s *askState) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Server+"/ask", bytes.NewReader([]byte("?")))
		if err != nil {
			return err
		}
		req.Header.Set("Idempotency-Key", flow.IdempotencyKey(ctx))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if err := policies.CheckResponse(resp); err != nil {
			return err
		}
		b, err := io.ReadAll(resp.Body)
		s.Answer = string(b)
		return err
	}, retry, policies.Timeout{Attempt: time.Minute}))
}

// TestFakeUnderSkippedTime has waits of hours, in seconds and as a date, which the fake sees in full.
func TestFakeUnderSkippedTime(t *testing.T) {
	t.Parallel()
	for name, date := range map[string]bool{"seconds": false, "date": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := flowtest.NewFake(t,
				flowtest.Reply{Status: 503, RetryAfter: 20 * time.Second, Date: date},
				flowtest.Reply{Status: 429, RetryAfter: 30 * time.Minute, Date: date}, // it is parked
				flowtest.Reply{Fault: flowtest.FaultReset},
				flowtest.Reply{Fault: flowtest.FaultClose},
				flowtest.Reply{Body: "yes"})
			started := time.Now()
			run := flowtest.Run(t, askFlow(policies.Retry{MaximumAttempts: 5, InitialInterval: time.Hour, Jitter: policies.NoJitter}), flowtest.Options{
				Params: map[string]string{"server": fake.URL()}, Prepare: fake.Prepare,
			})
			require.Equal(t, records.StatusCompleted, run.Status, "%v", run.Failure)
			require.Less(t, time.Since(started), time.Hour)
			fake.RequireRetryAfter(t)
			require.Len(t, fake.ByKey(), 1, "all attempts have the same key")
			delays := fake.Delays(fake.Requests()[0].Key)
			require.Len(t, delays, 4)
			for i, least := range []time.Duration{19 * time.Second, 29 * time.Minute, 2 * time.Hour, 4 * time.Hour} {
				require.GreaterOrEqual(t, delays[i], least)
				require.Less(t, delays[i], least+least/10+10*time.Second)
			}
		})
	}
}

// TestFakeSeesAnImpatientFlow has a step that passes a Retry-After over.
func TestFakeSeesAnImpatientFlow(t *testing.T) {
	t.Parallel()
	fake := flowtest.NewFake(t, flowtest.Reply{Status: 503, RetryAfter: time.Hour}, flowtest.Reply{Body: "yes"})
	f := flow.New("HastyFlow", flow.Step("ask", func(ctx context.Context, s *askState) error {
		status, _, _, err := ask(ctx, s.Server, "k", "")
		if err == nil && status != http.StatusOK {
			err = errors.New("not now")
		}
		return err
	}, policies.Retry{MaximumAttempts: 2, InitialInterval: time.Minute, Jitter: policies.NoJitter}))
	run := flowtest.Run(t, f, flowtest.Options{Params: map[string]string{"server": fake.URL()}, Prepare: fake.Prepare})
	require.Equal(t, records.StatusCompleted, run.Status)
	r := &recorder{TB: t}
	fake.RequireRetryAfter(r)
	require.Contains(t, r.text, `request 2 (POST /, key "k") came 1m0s after the answer to request 1, which was: 503, Retry-After: 3600`)
}
