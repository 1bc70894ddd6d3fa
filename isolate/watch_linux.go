package isolate

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// How often memory is looked at. Close to the limit it is as often as a fast program could reach it.
const (
	rarely  = 100 * time.Millisecond
	often   = 2 * time.Millisecond
	fastest = 4 << 30 // bytes that a program may write in a second
)

// watch adds up the memory of a process and of what it has started.
type watch struct {
	p    *Process
	quit chan struct{}
	kick chan struct{}
	done chan struct{}

	known map[int]uint64 // those that belong to it, with when they started
	next  time.Time      // when to look for new ones

	mu    sync.Mutex
	limit int64

	// Of run alone, until it is done.
	peak, over int64
}

func startWatch(p *Process, limit int64) *watch {
	w := &watch{p: p, limit: limit, quit: make(chan struct{}), kick: make(chan struct{}, 1), done: make(chan struct{}), known: map[int]uint64{}}
	born, _ := birth(p.process.Pid)
	w.known[p.process.Pid] = born
	go w.run()
	return w
}

func (w *watch) setLimit(limit int64) {
	w.mu.Lock()
	w.limit = limit
	w.mu.Unlock()
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// stop ends the watch, and returns the peak and how much there was in use when the limit was passed.
func (w *watch) stop() (peak, over int64) {
	close(w.quit)
	<-w.done
	return w.peak, w.over
}

func (w *watch) run() {
	defer close(w.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for pause := 5 * time.Millisecond; ; {
		select {
		case <-w.quit:
			return
		case <-w.kick:
		case <-timer.C:
		}
		began := time.Now()
		used, limit := w.look()
		if w.over > 0 {
			return
		}
		// A short process ends before the first slow look, so they get slower by and by.
		pause = min(pause*2, rarely)
		wait := pause
		if limit > 0 {
			wait = min(wait, max(time.Duration(float64(limit-used)/fastest*float64(time.Second)), often))
		}
		timer.Reset(max(wait, 4*time.Since(began))) // many processes, or large ones, take their time
	}
}

// look adds up once, and kills everything if it is too much.
func (w *watch) look() (used, limit int64) {
	looked := false
	if now := time.Now(); !now.Before(w.next) {
		looked = true
		w.find()
		// Looking costs time that grows with the machine's processes: it gets a twentieth at most.
		defer func() { w.next = time.Now().Add(max(rarely, 20*time.Since(now))) }()
	}
	var own int64
	for pid := range w.known {
		m, high := memoryOf(pid)
		used += m
		own = max(own, high)
	}
	w.mu.Lock()
	limit = w.limit
	w.mu.Unlock()
	over := limit > 0 && used > limit
	if len(w.known) > 1 && (over || looked) {
		used = w.shared(used) // what several have in common was counted for each
		over = limit > 0 && used > limit
		w.peak = max(w.peak, used)
	} else if len(w.known) == 1 {
		w.peak = max(w.peak, used)
	}
	w.peak = max(w.peak, own)
	if over {
		w.over = used
		w.p.Signal(syscall.SIGKILL)
		for pid, born := range w.known {
			if b, alive := birth(pid); alive && b == born {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	return used, limit
}

// find looks for processes that were started since. Those that belong to it are its children and theirs, and those of its session.
// One that was found stays, whoever its parent is.
func (w *watch) find() {
	type entry struct {
		parent, session int
		born            uint64
	}
	all := map[int]entry{}
	for _, pid := range pids() {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			continue
		}
		f := statFields(b)
		if len(f) < 20 || f[0] == "Z" {
			continue
		}
		var e entry
		e.parent, _ = strconv.Atoi(f[1])
		e.session, _ = strconv.Atoi(f[3])
		e.born, _ = strconv.ParseUint(f[19], 10, 64)
		all[pid] = e
	}
	for pid, born := range w.known {
		if e, ok := all[pid]; !ok || e.born != born {
			delete(w.known, pid)
		}
	}
	root := w.p.process.Pid
	for grown := true; grown; {
		grown = false
		for pid, e := range all {
			if _, ok := w.known[pid]; ok {
				continue
			}
			_, child := w.known[e.parent]
			if child || e.session == root {
				w.known[pid] = e.born
				grown = true
			}
		}
	}
}

// memoryOf is how much memory a process uses by itself: pages that it has written, and shared memory, in bytes. High is the most
// that it can have used so far.
func memoryOf(pid int) (used, high int64) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, 0
	}
	file := kilobytes(b, "RssFile:")
	used = kilobytes(b, "RssAnon:") + kilobytes(b, "RssShmem:")
	return used, max(used, kilobytes(b, "VmHWM:")-file)
}

// shared is memory of which each process has its share. A kernel that does not tell leaves the sum.
func (w *watch) shared(sum int64) int64 {
	var used int64
	for pid := range w.known {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
		switch {
		case err == nil && bytes.Contains(b, []byte("Pss_Anon:")):
			used += kilobytes(b, "Pss_Anon:") + kilobytes(b, "Pss_Shmem:")
		case os.IsNotExist(err): // it has just ended, or the kernel is old
			if _, alive := birth(pid); alive {
				return sum
			}
		case err != nil:
			m, _ := memoryOf(pid)
			used += m
		}
	}
	return used
}

// kilobytes reads a line like "VmHWM:   123 kB".
func kilobytes(b []byte, name string) int64 {
	i := bytes.Index(b, []byte("\n"+name))
	if i < 0 {
		return 0
	}
	line, _, _ := bytes.Cut(b[i+1+len(name):], []byte("\n"))
	n, _ := strconv.ParseInt(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(line), []byte("kB")))), 10, 64)
	return n << 10
}
