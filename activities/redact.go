package activities

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/trace"

	"github.com/stepwell-flows/stepwell/policies"
)

// hidden stands where a secret was.
const hidden = "[redacted]"

// minSecret is how long a value must be to be looked for, in bytes: a shorter one is in too many words.
const minSecret = 4

// minSetting is the same for values that nobody named as secrets, those of environment variables.
const minSetting = 6

// redactor hides secrets in texts. It is safe for concurrent use.
type redactor struct {
	above    *redactor // the worker's, of an attempt's
	patterns []*regexp.Regexp

	mu     sync.RWMutex
	values []string // the longest first, so that none is left in part
}

// newRedactor knows the values of environment variables whose names say that they are secrets.
func newRedactor(environ []string, patterns []*regexp.Regexp) *redactor {
	r := &redactor{patterns: patterns}
	r.environ(environ)
	return r
}

// environ adds the secrets of an environment.
func (r *redactor) environ(environ []string) {
	for _, setting := range environ {
		name, value, _ := strings.Cut(setting, "=")
		if len(value) >= minSetting && settingSaysSecret(name) {
			r.add(value)
		}
	}
}

// add hides a value from now on, and the forms in which it may stand in JSON and in a URL. Of a value of several lines each is
// hidden alone too, for what is printed line by line.
func (r *redactor) add(value string) {
	forms := []string{value, url.QueryEscape(value), url.PathEscape(value)}
	if quoted, err := json.Marshal(value); err == nil {
		forms = append(forms, string(quoted[1:len(quoted)-1]))
	}
	if quoted := fmt.Sprintf("%q", value); len(quoted) > 2 {
		forms = append(forms, quoted[1:len(quoted)-1])
	}
	if strings.Contains(value, "\n") {
		for line := range strings.Lines(value) {
			if line = strings.TrimSpace(line); len(line) >= 16 && !strings.HasPrefix(line, "-----") {
				forms = append(forms, line)
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, form := range forms {
		if len(form) >= minSecret && !slices.Contains(r.values, form) {
			r.values = append(r.values, form)
		}
	}
	slices.SortStableFunc(r.values, func(a, b string) int { return len(b) - len(a) })
}

// text returns s without secrets.
func (r *redactor) text(s string) string {
	for at := r; at != nil; at = at.above {
		at.mu.RLock()
		for _, value := range at.values {
			if strings.Contains(s, value) {
				s = strings.ReplaceAll(s, value, hidden)
			}
		}
		at.mu.RUnlock()
		for _, p := range at.patterns {
			s = p.ReplaceAllLiteralString(s, hidden)
		}
	}
	return hideKnown(s)
}

// failure hides secrets in what a failure says.
func (r *redactor) failure(f *policies.Failure) {
	if f != nil {
		f.Message, f.Stack = r.text(f.Message), r.text(f.Stack)
	}
}

// attr hides secrets in an attribute.
func (r *redactor) attr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(r.named(a.Key, v.String()))
	case slog.KindGroup:
		members := make([]slog.Attr, 0, len(v.Group()))
		for _, m := range v.Group() {
			members = append(members, r.attr(m))
		}
		a.Value = slog.GroupValue(members...)
	case slog.KindAny:
		a.Value = r.any(a.Key, v.Any())
	default: // numbers, durations and times are no secrets
		a.Value = v
	}
	return a
}

// named is the text of an attribute: its name may say that it is a secret.
func (r *redactor) named(name, value string) string {
	if len(value) >= minSecret && saysSecret(name) && (len(value) >= 8 || !strings.EqualFold(name, "token")) { // text has tokens, too
		return hidden
	}
	return r.text(value)
}

// any is a value of whatever type, as JSON, which is how it would be kept anyway.
func (r *redactor) any(name string, value any) (v slog.Value) {
	defer func() {
		if recover() != nil { // a method of the author's, on a nil pointer for example: slog says what it is
			v = slog.StringValue(fmt.Sprintf("!(a %T that panics when it is printed)", value))
		}
	}()
	if value == nil {
		return slog.AnyValue(nil)
	}
	_, isMarshaler := value.(json.Marshaler)
	if err, ok := value.(error); ok && !isMarshaler {
		return slog.StringValue(r.named(name, err.Error()))
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return slog.StringValue(r.named(name, fmt.Sprintf("%+v", value)))
	}
	text := strings.TrimSuffix(b.String(), "\n")
	if s := r.named(name, text); s != text {
		if !json.Valid([]byte(s)) {
			return slog.StringValue(s)
		}
		text = s
	}
	return slog.AnyValue(rawJSON(text))
}

// quiet hides secrets before the handler behind it gets to see them, and adds in which span a line was logged.
type quiet struct {
	slog.Handler
	redactor *redactor
	span     trace.SpanContext // of the attempt
}

func newQuiet(h slog.Handler, r *redactor, span trace.SpanContext) quiet {
	if span.IsValid() {
		h = h.WithAttrs([]slog.Attr{slog.String("trace_id", span.TraceID().String())}) // before any group
	}
	return quiet{h, r, span}
}

// Handle implements slog.Handler.
func (h quiet) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level, h.redactor.text(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(h.redactor.attr(a))
		return true
	})
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() {
		span = h.span
	}
	if span.IsValid() {
		out.AddAttrs(slog.String("span_id", span.SpanID().String()))
		if span.TraceID() != h.span.TraceID() {
			out.AddAttrs(slog.String("trace_id", span.TraceID().String()))
		}
	}
	return h.Handler.Handle(ctx, out)
}

// WithAttrs implements slog.Handler.
func (h quiet) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		out[i] = h.redactor.attr(a)
	}
	h.Handler = h.Handler.WithAttrs(out)
	return h
}

// WithGroup implements slog.Handler.
func (h quiet) WithGroup(name string) slog.Handler {
	h.Handler = h.Handler.WithGroup(name)
	return h
}

// secrets hides what the attempt knows to be secret, or what the worker does while there is no log.
func (t *attempt) secrets() *redactor {
	if t.log != nil {
		return t.log.redactor
	}
	return t.redactor
}

// redact keeps a value out of the log from now on. In a process of its own, the worker is told, who keeps the log.
func (t *attempt) redact(value string) {
	if len(value) < minSecret {
		return
	}
	if t.tell != nil {
		t.tell(value)
		return
	}
	t.secrets().add(value)
}
