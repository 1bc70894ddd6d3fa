package records

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// LogLine is one line of an attempt's log.
type LogLine struct {
	Time    time.Time
	Level   string
	Message string
	// Attrs are the other fields as "key=value", in the order they were logged.
	Attrs []string
}

// ReadLogLine reads one line as package activities writes it: a JSON object with time, level and msg.
// Anything else becomes the message as it is.
func ReadLogLine(line []byte) LogLine {
	var l LogLine
	dec := json.NewDecoder(bytes.NewReader(line))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return LogLine{Message: string(line)}
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return LogLine{Message: string(line)}
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return LogLine{Message: string(line)}
		}
		var text string
		isText := json.Unmarshal(raw, &text) == nil
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
		default:
			if isText && strings.ContainsAny(text, " \"\n=") {
				text = fmt.Sprintf("%q", text)
			}
			l.Attrs = append(l.Attrs, fmt.Sprintf("%v=%s", key, text))
		}
	}
	if _, err := dec.Token(); err != nil && err != io.EOF {
		return LogLine{Message: string(line)}
	}
	return l
}

// String is the line for a terminal.
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
	return b.String()
}
