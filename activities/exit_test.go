package activities

import (
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/isolate"
	"github.com/stepwell-flows/stepwell/policies"
)

func TestExitFailure(t *testing.T) {
	t.Parallel()
	const goStack = "panic: boom [recovered]\n\nexit status 2\ngoroutine 7 [running]:\nmain.f()"
	for _, c := range []struct {
		name          string
		exit          isolate.Exit
		stderr        string
		class         policies.Class
		typ, message  string
		stack         string
		messageIsPart bool
	}{
		{"code", isolate.Exit{Code: 3}, "", policies.Unknown, "ExitError", "it ended with exit code 3", "", false},
		{"code with text", isolate.Exit{Code: 3}, "a\nb\n\n", policies.Unknown, "ExitError", "it ended with exit code 3: b", "a\nb", false},
		{"signal", isolate.Exit{Code: -1, Signal: syscall.SIGABRT}, "assert failed", policies.Bug, "SignalError", "it was ended by signal SIGABRT: assert failed", "assert failed", false},
		{"limit", isolate.Exit{Code: -1, Signal: syscall.SIGKILL, Memory: 3 << 30}, "", policies.OutOfMemory, "OutOfMemoryError", "it used 3 GiB of memory and may use 2 GiB", "", true},
		{"machine", isolate.Exit{Code: -1, Signal: syscall.SIGKILL, Starved: true, Usage: isolate.Usage{PeakMemory: 1 << 30}}, "", policies.OutOfMemory, "OutOfMemoryError", "the machine had no memory left; it had used 1 GiB", "", true},
		{"Go panic", isolate.Exit{Code: 2}, "noise\n" + goStack, policies.Bug, "PanicError", "panic: boom", goStack, false},
		{"Go signal", isolate.Exit{Code: 2}, "SIGSEGV: segmentation violation\nPC=0x1", policies.Bug, "SignalError", "it was ended by signal SIGSEGV: segmentation violation", "SIGSEGV: segmentation violation\nPC=0x1", false},
		{"C signal", isolate.Exit{Code: 2}, "fatal error: unexpected signal during runtime execution\n[signal SIGBUS: bus error code=0x1]", policies.Bug, "SignalError", "it was ended by signal SIGBUS: bus error", "", true},
		{"nil pointer", isolate.Exit{Code: 2}, "panic: runtime error: invalid memory address\n[signal SIGSEGV: segmentation violation]", policies.Bug, "PanicError", "panic: runtime error: invalid memory address", "[signal SIGSEGV", false},
		{"Go memory", isolate.Exit{Code: 2}, "fatal error: runtime: out of memory\n", policies.OutOfMemory, "OutOfMemoryError", "it got no more memory from the system", "", true},
		{"deadlock", isolate.Exit{Code: 2}, "fatal error: all goroutines are asleep - deadlock!\n", policies.Unknown, "ExitError", "it ended with exit code 2: fatal error: all goroutines are asleep - deadlock!", "", false},
		{"last traceback", isolate.Exit{Code: 1}, "Traceback (most recent call last):\n  a\nE1: handled\nmore\nTraceback (most recent call last):\n  b\nValueError: no", policies.Unknown, "ExitError", "it ended with exit code 1: ValueError: no", "Traceback (most recent call last):\n  b\nValueError: no", false},
		{"no panic of Go's", isolate.Exit{Code: 1}, "panic: not Go\n", policies.Unknown, "ExitError", "it ended with exit code 1: panic: not Go", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := exitFailure("it", c.exit, 2<<30, c.stderr, func(int) policies.Class { return policies.Unknown })
			require.Equal(t, c.class, f.Class)
			require.Equal(t, c.typ, f.Type)
			if c.messageIsPart {
				require.Contains(t, f.Message, c.message)
			} else {
				require.Equal(t, c.message, f.Message)
			}
			require.Contains(t, f.Stack, c.stack)
		})
	}
	f := exitFailure("it", isolate.Exit{Code: 1}, 0, strings.Repeat("ä", 1<<16)+"\xff", func(int) policies.Class { return policies.Unknown })
	require.Less(t, len(f.Message)+len(f.Stack), maxCrash+1000, "what is kept is bounded")
}
