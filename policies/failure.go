package policies

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"time"
	"unicode/utf8"
)

// Failure is what ended an attempt or a task. It is plain data: a catch function receives it,
// a state may keep it as an artifact, records and Temporal's failures carry it.
//
// A *Failure is an error; its text is Message.
type Failure struct {
	// Class is the kind of failure.
	Class Class `json:"class"`
	// Message is the error's text, at most 2 KiB; it says so when it was cut.
	Message string `json:"message,omitempty"`
	// Type is the Go type of the error without package and pointers, as Temporal writes it: the
	// outermost type in the chain that is not a mere wrapper of errors or fmt. Empty for
	// errors.New, "PanicError" for a panic.
	Type string `json:"type,omitempty"`
	// Stack is the stack of a panic, cut to what Temporal keeps of a failure. Empty otherwise.
	Stack string `json:"stack,omitempty"`

	// Flow, Run, Step and Task say whose failure it is.
	Flow string `json:"flow,omitempty"`
	Run  string `json:"run,omitempty"`
	Step string `json:"step,omitempty"`
	Task string `json:"task,omitempty"`
	// Attempt is the attempt that failed, counted from 1. Zero means that it is not known.
	Attempt int `json:"attempt,omitempty"`
	// CodeFailures and LostAttempts are what the task has used of its two budgets, this failure included.
	CodeFailures int `json:"code_failures,omitempty"`
	LostAttempts int `json:"lost_attempts,omitempty"`

	// Others is how many other tasks of the run failed along with this one, which was the first.
	Others int `json:"others,omitempty"`

	// RetryAfter is the wait that the error asked for. Zero means that it asked for none.
	RetryAfter time.Duration `json:"-"`
	// Time is when the attempt ended.
	Time time.Time `json:"time,omitzero"`
	// Worker is the worker that ran the attempt.
	Worker string `json:"worker,omitempty"`
}

// Error returns the message.
func (f *Failure) Error() string { return f.Message }

type plainFailure Failure

type failureJSON struct {
	plainFailure
	RetryAfter duration `json:"retry_after,omitzero"`
}

// MarshalJSON writes RetryAfter as text, such as "30s".
func (f Failure) MarshalJSON() ([]byte, error) {
	return json.Marshal(failureJSON{plainFailure(f), duration(f.RetryAfter)})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (f *Failure) UnmarshalJSON(b []byte) error {
	var in failureJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	*f = Failure(in.plainFailure)
	f.RetryAfter = time.Duration(in.RetryAfter)
	return nil
}

const (
	// maxMessage bounds Failure.Message in bytes.
	maxMessage = 2 << 10
	// maxFailure bounds a failure as Temporal receives it, message, details and all. The server
	// drops the details of a failure over 4 KiB (limit.mutableStateActivityFailureSize.error);
	// the rest is room for a payload codec that encrypts.
	maxFailure = 3 << 10
	// failureFrame is what a failure weighs besides its message, its type and its details.
	failureFrame = 160
)

// PanicFailure is the failure of a step that panicked: class Bug, with the panic's value and the
// stack, from the panicking function on, as far as it fits into a Temporal failure. Stack is what
// debug.Stack returned in the deferred function.
func PanicFailure(value any, stack []byte) *Failure {
	f := &Failure{Class: Bug, Type: "PanicError", Message: message("panic: " + text(value)), Stack: trimStack(string(stack))}
	f.fit()
	return f
}

// text is fmt.Sprint that outlives a value whose own String or Error method panics.
// (The fmt package guards most such calls, but not a nested panic.)
func text(value any) (s string) {
	defer func() {
		if recover() != nil {
			s = fmt.Sprintf("a value of type %T that cannot be printed", value)
		}
	}()
	if err, ok := value.(error); ok {
		return err.Error()
	}
	return fmt.Sprint(value)
}

// message makes a text fit for Failure.Message. A failure travels as a protobuf string, and one
// byte that is not UTF-8 would keep the server from ever hearing of it.
func message(s string) string {
	return cut(strings.ToValidUTF8(s, "\uFFFD"), maxMessage)
}

// cut shortens s to at most limit bytes on a rune boundary, a note that says so included.
func cut(s string, limit int) string {
	const note = "… (cut)"
	if len(s) <= limit {
		return s
	}
	if limit <= len(note) {
		return ""
	}
	end := limit - len(note)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + note
}

// trimStack leaves out the frames between the panic and debug.Stack: they are the same for every
// panic, and the room is scarce.
func trimStack(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	head, rest, ok := strings.Cut(s, "\n")
	if !ok || !strings.HasPrefix(head, "goroutine ") {
		return s
	}
	_, after, ok := strings.Cut("\n"+rest, "\npanic(")
	if !ok {
		return s
	}
	_, after, ok = strings.Cut(after, "\n") // the rest of the line "panic(…)"
	if !ok {
		return s
	}
	_, after, ok = strings.Cut(after, "\n") // and the file it is in
	if !ok {
		return s
	}
	return head + "\n" + after
}

// size is about what the failure weighs as a Temporal failure.
func (f *Failure) size() int {
	b, err := json.Marshal(f.details())
	if err != nil {
		return len(f.Message) + len(f.Stack) + maxFailure // cannot happen; makes fit cut
	}
	return failureFrame + len(f.Message) + len(f.Class) + len(b)
}

// details is the failure without what the Temporal failure says anyway.
func (f *Failure) details() Failure {
	d := *f
	d.Message = ""
	return d
}

// fit cuts the failure to maxFailure: first the stack, then the message, then names that are
// absurdly long. It keeps as much as there is room for.
func (f *Failure) fit() {
	if f.size() <= maxFailure {
		return
	}
	// What cannot fit at all goes first, so that the search weighs kilobytes and not megabytes. The
	// search cuts it again and thereby takes this cut's note away.
	for _, text := range []*string{&f.Stack, &f.Message, &f.Worker, &f.Type, &f.Task, &f.Run, &f.Step, &f.Flow} {
		*text = cut(*text, maxFailure)
	}
	for _, part := range []struct {
		text *string
		keep int // what is left in any case
	}{
		{&f.Stack, 0}, {&f.Message, 512}, {&f.Worker, 64}, {&f.Type, 64},
		{&f.Task, 128}, {&f.Run, 128}, {&f.Step, 64}, {&f.Flow, 128},
		// Bytes that JSON escapes weigh sixfold, so even short names may be too much.
		{&f.Worker, 0}, {&f.Type, 0}, {&f.Task, 0}, {&f.Run, 0}, {&f.Step, 0}, {&f.Flow, 0},
	} {
		whole := *part.text
		*part.text = cut(whole, part.keep)
		if f.size() > maxFailure {
			continue
		}
		room := sort.Search(max(len(whole)-part.keep, 0), func(i int) bool {
			*part.text = cut(whole, part.keep+i+1)
			return f.size() > maxFailure
		})
		*part.text = cut(whole, part.keep+room)
		return
	}
}
