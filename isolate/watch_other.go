//go:build unix && !linux

package isolate

// watch is nothing that this system can do.
type watch struct{}

func startWatch(*Process, int64) *watch { return &watch{} }

func (*watch) setLimit(int64) {}

func (*watch) stop() (peak, over int64) { return 0, 0 }
