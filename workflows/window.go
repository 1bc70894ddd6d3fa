package workflows

// window finds out how many tasks of a workflow are worth having under way. A server hands a task over at once to a worker that has
// room for it when it is scheduled; one that has to wait in the server's queue costs it twice as much. So there are few more than
// the workers can run: tasks tell whether they waited for long ([activities.StepResult.Queued]). Each time that as many came back as
// the window has room for, it grows if none had waited, by 1, 2, 4 and so on. When one had, it goes back by a quarter of what it has
// grown, and does not listen to those that were under way then.
//
// A nil window knows nothing and hears nothing. What a workflow does depends on all of this: a change breaks the replay of runs that
// are under way.
type window struct {
	least, limit int
	// step is by how much it grows next, quiet how many tasks came back since it last grew, deaf how many still count for nothing.
	step, quiet, deaf int
}

// widest is how far a window grows.
const widest = 250

func newWindow(least int) *window { return &window{least: least, limit: least, step: 1} }

// heard takes in what a task tells that was one of so many under way.
func (w *window) heard(queued bool, busy int) {
	switch {
	case w == nil:
	case w.deaf > 0:
		w.deaf--
	case queued:
		w.deaf, w.step, w.quiet = w.limit, 1, 0
		w.limit -= (w.limit - w.least + 3) / 4
	case busy < w.limit: // nobody knows what one more would have done
	default:
		if w.quiet++; w.quiet >= w.limit {
			w.limit = max(w.limit, min(w.limit+w.step, widest))
			w.step, w.quiet = min(2*w.step, widest), 0
		}
	}
}

// now is how many tasks may be under way.
func (w *window) now() int {
	if w == nil {
		return 0
	}
	return w.limit
}

// learned takes over what another workflow found out.
func (w *window) learned(limit int) {
	if w != nil {
		w.limit = max(w.least, min(limit, widest))
	}
}
