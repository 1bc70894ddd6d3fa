package activities

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/stepwell-flows/stepwell/policies"
)

func TestTextsLoseTheirSecrets(t *testing.T) {
	t.Parallel()
	r := newRedactor([]string{
		"DB_PASSWORD=hunter2-and-more", "STRIPE_KEY=live/with \"quotes\"", "PUBLIC_KEY=everybody-knows", "TOKEN_FILE=/run/token-file",
		"API_TOKEN=short", "HOME=/home/ada-lovelace", "PEM_SECRET=-----BEGIN X-----\nMIIBVgIBADANBgkqhkiG9w0\n-----END X-----",
	}, []*regexp.Regexp{regexp.MustCompile(`cust-\d+`)})
	own := &redactor{above: r}
	own.add("s3cr3t")
	for _, test := range []struct{ text, want string }{
		{"connect with hunter2-and-more", "connect with [redacted]"},
		{`{"v":"live/with \"quotes\""}`, `{"v":"[redacted]"}`},
		{"at https://x/?k=live%2Fwith+%22quotes%22", "at https://x/?k=[redacted]"},
		{"everybody-knows /run/token-file short /home/ada-lovelace", "everybody-knows /run/token-file short /home/ada-lovelace"},
		{"MIIBVgIBADANBgkqhkiG9w0", "[redacted]"},
		{"of cust-123 and s3cr3t", "of [redacted] and [redacted]"},
		{"key AKIAIOSFODNN7EXAMPLE here", "key [redacted] here"},
		{"aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "aws_secret_access_key = [redacted]"},
		{"Authorization: Bearer abc.def-123==", "Authorization: Bearer [redacted]"},
		{"authorization: Basic dXNlcjpwYXNz", "authorization: Basic [redacted]"},
		{"the bearer certificate is gone", "the bearer certificate is gone"},
		{"dial postgres://ada:p@ss@db:5432/x: refused", "dial postgres://ada:[redacted]@db:5432/x: refused"},
		{"see https://example.com:8080/a@b", "see https://example.com:8080/a@b"},
		{"GET /o?X-Amz-Signature=00ff&x=1", "GET /o?X-Amz-Signature=[redacted]&x=1"},
		{"ghp_abcdefghijklmnopqrstuvwxyz0123456789", "[redacted]"},
		{`body {"password":"correct horse","n":1}`, `body {"password":"[redacted]","n":1}`},
		{`body {\"api_key\":\"correct\",\"n\":1}`, `body {\"api_key\":\"[redacted]\",\"n\":1}`},
		{"{Password:hunter User:ada}", "{Password:[redacted] User:ada}"},
		{"password: hunter", "password: [redacted]"},
		{"client_secret=a&x=1", "client_secret=[redacted]&x=1"},
		{"unexpected token: EOF", "unexpected token: EOF"},
		{"max_tokens=4096 token=12 primary_key=abc cache key: fit[3]", "max_tokens=4096 token=12 primary_key=abc cache key: fit[3]"},
		{"a -----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY----- b", "a [redacted] b"},
	} {
		require.Equal(t, test.want, own.text(test.text))
	}
}

// TestNamesThatSaySecret shows which names of variables and attributes hide their value.
func TestNamesThatSaySecret(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"DB_PASSWORD", "token", "githubToken", "x-api-key", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "clientSecret", "db_pass", "credentials", "APIKey"} {
		require.True(t, saysSecret(name), name)
	}
	for _, name := range []string{"key", "partition_key", "tokens", "max_tokens", "AWS_ACCESS_KEY_ID", "SECRET_NAME", "pass", "passes", "compass", "monkey", "tokenizer", "PWD", ""} {
		require.False(t, saysSecret(name), name)
	}
}

type login struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

type broken struct{}

func (*broken) Error() string { panic("nil") }

// TestSecretsNeverReachAHandler shows that neither what is kept nor what is echoed gets to see them, however they are logged.
func TestSecretsNeverReachAHandler(t *testing.T) {
	t.Parallel()
	var kept, echoed bytes.Buffer
	r := &redactor{}
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	log := slog.New(newQuiet(slog.NewMultiHandler(slog.NewJSONHandler(&kept, nil), slog.NewTextHandler(&echoed, nil)), r, span))
	r.add("s3cr3t")
	log.With("dsn", "s3cr3t").WithGroup("g").Info("with s3cr3t",
		"password", "abcdef", "n", 7, "err", errors.New("no s3cr3t"), "login", login{"ada", "pw-of-ada"},
		slog.Group("in", "a", "s3cr3t"), "list", []string{"s3cr3t", "b"}, "bad", (*broken)(nil), "nothing", nil, "f", func() {})
	for _, out := range []string{kept.String(), echoed.String()} {
		require.NotContains(t, out, "s3cr3t")
		require.NotContains(t, out, "abcdef")
		require.NotContains(t, out, "pw-of-ada")
		require.Contains(t, out, "no [redacted]")
		require.Contains(t, out, "0100000000000000")
	}
	require.Contains(t, kept.String(), `"login":{"user":"ada","password":"[redacted]"}`)
	require.Contains(t, kept.String(), `"n":7`)

	kept.Reset()
	other := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{9}}))
	log.InfoContext(other, "in a span within")
	require.Contains(t, kept.String(), `"span_id":"0900000000000000"`)
	require.Equal(t, 1, strings.Count(kept.String(), "trace_id"))
}

func TestAFailureLosesItsSecrets(t *testing.T) {
	t.Parallel()
	r := &redactor{}
	r.add("s3cr3t")
	f := &policies.Failure{Message: "open s3cr3t", Stack: "f(s3cr3t)"}
	r.failure(f)
	require.Equal(t, "open [redacted]", f.Message)
	require.Equal(t, "f([redacted])", f.Stack)
	r.failure(nil)
}

func BenchmarkRedact(b *testing.B) {
	r := &redactor{above: newRedactor([]string{"A_TOKEN=0123456789abcdef", "B_SECRET=fedcba9876543210"}, nil)}
	line := "read 1200 rows of s3://bucket/prefix/part-0001.parquet in 1.2s: key=7 of 100, 99.1% are new"
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		r.text(line)
	}
}
