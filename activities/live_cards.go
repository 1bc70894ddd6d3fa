package activities

import (
	"context"
	"html/template"
	"sync"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

const (
	// liveFirst is how long after a step's first change its cards are written. A step that is shorter pays for none of it.
	liveFirst = time.Second
	// liveEvery is how often the cards of a running step are written at most.
	liveEvery = 5 * time.Second
	// liveShare bounds what making them costs: the pause is this many times as long as it took.
	liveShare = 120
	// livePut is how long writing one may take, which the end of the step may have to wait for.
	livePut = 5 * time.Second
)

// liveCards are the contents of a step's cards, which are written while the step runs.
type liveCards struct {
	t       *attempt
	content *flow.CardContent
	specs   []flow.CardSpec
	pace    *pace
	wrote   bool           // a card says that the step runs. Written under putting
	final   bool           // the cards have been written that stay
	base    *flow.CardData // what does not change while the step runs

	mu sync.Mutex
	// apart is what a process of its own has rendered, by the card's name.
	apart map[string][]template.HTML

	putting sync.Mutex // held while a card is written, so that an older one does not come last
	stopped bool       // under putting
}

// cardContent returns what the author's function can put on its cards. In the process of an isolated step changed tells the worker.
func (t *attempt) cardContent() *flow.CardContent {
	if t.live.content == nil {
		var names []string
		if t.def != nil {
			t.live.specs = t.def.Cards
		}
		for _, c := range t.live.specs {
			names = append(names, c.Name)
		}
		changed := t.cardsChanged
		if changed == nil && len(names) > 0 && !t.batched {
			t.live.t = t
			t.live.base = t.cardFacts(records.Task{Started: t.started})
			t.live.pace = &pace{first: liveFirst, every: liveEvery, do: t.live.write}
			changed = t.live.pace.mark
		}
		t.live.content = flow.NewCardContent(changed, names...)
	}
	return t.live.content
}

// progress keeps how far the author's function is, for the heartbeat and the cards.
func (t *attempt) progress(done, total int64) {
	t.beat.progress(done, total)
	t.live.content.Refresh()
}

// components are those of one card.
func (l *liveCards) components(card string) []flow.Component {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.apart == nil {
		return l.content.Named(card).Components()
	}
	var all []flow.Component
	for _, html := range l.apart[card] {
		all = append(all, rendered(html))
	}
	return all
}

// take keeps what a process of its own has rendered.
func (l *liveCards) take(cards map[string][]template.HTML) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.apart = cards
}

// write makes the cards of the running step and returns how long that took, without the writing.
func (l *liveCards) write() time.Duration {
	t := l.t
	data := *l.base
	data.Live, data.Written = true, t.options.Now()
	data.Done, data.Total = t.beat.done.Load(), t.beat.total.Load()
	if t.log != nil {
		data.Log = t.log.tail(50)
	}
	data.Attempts = append(append([]flow.CardAttempt(nil), data.Attempts...), flow.CardAttempt{Number: t.number, Started: t.started})
	var took time.Duration
	for _, c := range l.specs {
		data.Components = l.components(c.Name)
		began := time.Now()
		page, err := renderWithin(cardLimit, c, data)
		took += time.Since(began)
		if err == nil {
			l.put(c.Name, page)
		}
	}
	return took
}

// put writes one card unless the step has ended. One that cannot be written is not worth a word: another follows.
func (l *liveCards) put(card string, page []byte) {
	l.putting.Lock()
	defer l.putting.Unlock()
	if l.stopped {
		return
	}
	l.wrote = true
	ctx, cancel := context.WithTimeout(context.Background(), livePut)
	defer cancel()
	in := l.t.in
	_ = l.t.store.PutDoc(ctx, records.CardKey(in.Flow, in.Run, in.Step, in.Index, card), page)
}

// stop ends the writing. It may be called twice.
func (l *liveCards) stop() {
	if l.pace != nil {
		l.pace.stop()
	}
	l.putting.Lock()
	defer l.putting.Unlock()
	l.stopped = true
}

// pace does something in the background after it was marked, not more often than is bearable. It is safe for concurrent use.
type pace struct {
	first, every time.Duration
	// do returns how long the work was.
	do func() time.Duration

	mu      sync.Mutex
	timer   *time.Timer
	next    time.Time
	took    time.Duration // the last time
	marked  bool
	busy    bool
	stopped bool
}

// mark asks for it to be done.
func (p *pace) mark() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.marked || p.stopped {
		return
	}
	p.marked = true
	if !p.busy {
		p.schedule()
	}
}

func (p *pace) schedule() {
	wait := p.first
	if !p.next.IsZero() {
		wait = max(time.Until(p.next), 0)
	}
	p.timer = time.AfterFunc(wait, p.fire)
}

func (p *pace) fire() {
	p.mu.Lock()
	if p.stopped {
		p.mu.Unlock()
		return
	}
	p.marked, p.busy = false, true
	p.mu.Unlock()
	took := p.do()
	p.mu.Lock()
	defer p.mu.Unlock()
	// The shorter of two, because other work on the machine makes it seem longer, and the first time there is more to do.
	p.busy, p.next = false, time.Now().Add(max(p.every, liveShare*min(took, p.took)))
	p.took = took
	if p.marked && !p.stopped {
		p.schedule()
	}
}

func (p *pace) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	if p.timer != nil {
		p.timer.Stop()
	}
}
