package activities

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/stepwell-flows/stepwell/isolate"
	"github.com/stepwell-flows/stepwell/policies"
)

// The types of failures of processes.
const (
	ExitErrorType        = "ExitError"        // it ended by itself, with an exit code
	SignalErrorType      = "SignalError"      // a signal ended it
	OutOfMemoryErrorType = "OutOfMemoryError" // it used more than its limit, or than there was
	StartErrorType       = "StartError"       // it could not be started, or ended before it could call the step's function
	CrashLoopErrorType   = "CrashLoopError"   // it ended so several times in a row
	OutputErrorType      = "OutputError"      // a program did not write what it should, see OutputError
)

// exitFailure says what the end of a process means that did not end well. What names it, class is asked about exit codes.
func exitFailure(what string, e isolate.Exit, limit int64, stderr string, class func(code int) policies.Class) *policies.Failure {
	line, stack, kind := crash(stderr)
	f := &policies.Failure{Class: policies.Bug, Stack: stack}
	with := ""
	if line != "" {
		with = ": " + line
	}
	switch {
	case e.Memory > 0:
		f.Class, f.Type = policies.OutOfMemory, OutOfMemoryErrorType
		f.Message = fmt.Sprintf("%s used %s of memory and may use %s (give it more with flow.Isolated or policies.Escalate)", what, policies.Bytes(e.Memory), policies.Bytes(limit))
	case e.Starved:
		f.Class, f.Type = policies.OutOfMemory, OutOfMemoryErrorType
		f.Message = fmt.Sprintf("%s was killed because the machine had no memory left; it had used %s (give flow.Isolated a limit, or the worker more memory)", what, policies.Bytes(e.Usage.PeakMemory))
	case e.Signal != 0:
		f.Type = SignalErrorType
		f.Message = fmt.Sprintf("%s was ended by signal %s%s", what, isolate.SignalName(e.Signal), with)
	case e.Code == 2 && kind == goMemory:
		f.Class, f.Type = policies.OutOfMemory, OutOfMemoryErrorType
		f.Message = fmt.Sprintf("%s got no more memory from the system, with %s in use%s", what, policies.Bytes(e.Usage.PeakMemory), with)
	case e.Code == 2 && kind == goSignal:
		f.Type = SignalErrorType
		f.Message = fmt.Sprintf("%s was ended by signal %s", what, line)
	case e.Code == 2 && kind == goPanic:
		f.Type = "PanicError"
		f.Message = line
	default:
		f.Class, f.Type = class(e.Code), ExitErrorType
		f.Message = fmt.Sprintf("%s ended with exit code %d%s", what, e.Code, with)
	}
	return f
}

// crashBytes is how much of the standard error is looked at for the reason of a crash, and maxCrash how much is kept of it.
const (
	crashBytes = 64 << 10
	maxCrash   = 4 << 10
	crashLines = 20
)

type crashKind int

const (
	otherCrash crashKind = iota
	goPanic
	goSignal
	goMemory
	traceback
)

// Where runtimes begin to tell why they end.
var crashes = []struct {
	kind  crashKind
	begin *regexp.Regexp
}{
	{goPanic, regexp.MustCompile(`(?m)^panic: .*$`)},
	{goMemory, regexp.MustCompile(`(?m)^fatal error: .*(?:out of memory|cannot allocate memory).*$`)},
	{goSignal, regexp.MustCompile(`(?m)^(?:\[signal )?SIG[A-Z]+: .*$`)},
	{otherCrash, regexp.MustCompile(`(?m)^fatal error: .*$`)},
	{traceback, regexp.MustCompile(`(?m)^Traceback \(most recent call last\):$`)},
}

// crash finds what a process said about its end: a line, and all of it.
func crash(stderr string) (line, all string, kind crashKind) {
	stderr = strings.TrimRight(strings.ToValidUTF8(stderr, "\uFFFD"), "\n\r\t ")
	for _, c := range crashes {
		at := c.begin.FindAllStringIndex(stderr, -1)
		if len(at) == 0 {
			continue
		}
		if c.kind == traceback {
			at = at[len(at)-1:] // earlier ones were handled
			all = lastBytes(stderr[at[0][0]:], maxCrash)
			return lastLine(all), all, c.kind
		}
		line = strings.TrimPrefix(stderr[at[0][0]:at[0][1]], "[signal ")
		return strings.TrimSuffix(line, " [recovered]"), firstBytes(stderr[at[0][0]:], maxCrash), c.kind
	}
	lines := strings.Split(stderr, "\n")
	all = lastBytes(strings.Join(lines[max(0, len(lines)-crashLines):], "\n"), maxCrash)
	return lastLine(all), all, otherCrash
}

func lastLine(s string) string {
	const most = 400
	line := strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
	return firstBytes(line, most)
}

func firstBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

func lastBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "…" + strings.ToValidUTF8(s[len(s)-n:], "")
}
