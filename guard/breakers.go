package guard

import "maps"

// Breakers are the states of the breakers that this process knows of, by the names of their services, for metrics: [Closed], [Opened]
// or [HalfOpen].
func (r *Registry) Breakers() map[string]string {
	r.mu.Lock()
	all := maps.Clone(r.all)
	r.mu.Unlock()
	states := map[string]string{}
	for _, d := range all {
		if name, state := d.breaker(); name != "" {
			states[name] = state
		}
	}
	return states
}

// breaker is the name of the service and the state of its breaker, both "" if it has none.
func (d *Dependency) breaker() (name, state string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &d.state
	switch {
	case s.Settings.Name == "" || s.Settings.Breaker.Failures == 0:
		return "", ""
	case !s.Open:
		return s.Settings.Name, Closed
	case d.now().Before(s.Until):
		return s.Settings.Name, Opened
	default:
		return s.Settings.Name, HalfOpen
	}
}
