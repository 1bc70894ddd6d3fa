package records

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// StepLogsPrefix is the folder of the logs of a step, or of the batches of a foreach.
func StepLogsPrefix(flowName, run, step string) string {
	return taskPrefix(flowName, run, "logs", step)
}

// LogLine is one line of an attempt's log.
type LogLine struct {
	Time    time.Time
	Level   string
	Message string
	// Attrs are the other fields as "key=value", in the order they were logged.
	Attrs []string
	// Trace and Span are the ids of the trace and the span in which the line was logged, "" if there was none.
	Trace, Span string
}

// ReadLogLine reads one line as package activities writes it: a JSON object with time, level and msg.
// Anything else becomes the message as it is, the beginning of such an object included.
func ReadLogLine(line []byte) LogLine {
	l, ok := readLogLine(line)
	if !ok {
		return LogLine{Message: string(line)}
	}
	return l
}

func readLogLine(line []byte) (l LogLine, ok bool) {
	dec := json.NewDecoder(bytes.NewReader(line))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return l, false
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return l, false
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return l, false
		}
		var text string
		isText := raw[0] == '"' && json.Unmarshal(raw, &text) == nil
		if !isText {
			text = string(raw)
		}
		switch key {
		case "time":
			if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
				l.Time = t
			}
		case "level":
			l.Level = text
		case "msg":
			l.Message = text
		case "trace_id":
			l.Trace = text
		case "span_id":
			l.Span = text
		default:
			if isText && (text == "" || strings.ContainsAny(text, " \"\n=")) {
				text = fmt.Sprintf("%q", text)
			}
			l.Attrs = append(l.Attrs, fmt.Sprintf("%v=%s", key, text))
		}
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return l, false
	}
	_, err := dec.Token()
	return l, err == io.EOF
}

// String is the line for a terminal. Control characters other than line breaks and tabs are shown escaped: what a
// step logs may come from elsewhere, and must not move the cursor or rename the window.
func (l LogLine) String() string {
	var b strings.Builder
	if !l.Time.IsZero() {
		b.WriteString(l.Time.Local().Format("15:04:05.000 "))
	}
	if l.Level != "" {
		fmt.Fprintf(&b, "%-5s ", l.Level)
	}
	b.WriteString(l.Message)
	for _, a := range l.Attrs {
		b.WriteString(" " + a)
	}
	return printable(b.String())
}

func printable(s string) string {
	control := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
	s = strings.ToValidUTF8(s, "\uFFFD")
	if !strings.ContainsFunc(s, control) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if !control(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}
