// Package isolate runs processes that cannot harm the one that starts them: with limits, with a bounded memory of what they print,
// and so that nothing of them stays when they end.
//
//	p, err := isolate.Start(isolate.Command{Path: "/usr/bin/python3", Args: []string{"python3", "train.py"}, Memory: 1 << 30})
//	if err != nil {
//		return err // nothing was started
//	}
//	p.Stderr.Each(func(line string) { log.Info(line) })
//	exit := p.Wait()
//
// # What belongs to a process
//
// A process gets a session of its own, and so is not reached by the signals of a terminal. Everything that it starts belongs to it:
// its process group, and on Linux whatever has the variable [Marker] of it in its environment, in whatever session. When the process
// ends, by itself or by force, all of that is killed. The kernel kills the process when the one that started it is gone (Linux); what
// the process has started is killed by the next [Sweep] on the machine.
//
// # Limits
//
// On Linux the memory of the process and of all that it starts is added up many times a second: pages that it wrote, and memory
// that is shared without a file, but not the pages of programs and files. What several processes share counts once. If it is more
// than the limit, all of them are killed. The limit is not exact: between two looks, a few dozen MiB may come on top. Other systems
// have no such limit.
//
// # A copy of the program
//
// A [Child] is the running program once more. It is told apart by [Parent], which its main function has to ask first of all.
package isolate
