package devserver

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"strconv"
	"syscall"
)

// The range that free ports are taken from. It lies below the ranges that Linux (32768) and macOS (49152) give to
// outgoing connections, so that none of those can sit on a port while the server restarts.
const (
	firstPort = 20000
	lastPort  = 29999
)

// errPort says that a port which has to be this one is not free.
var errPort = errors.New("taken by another program")

// localhost is the only address that anything here binds.
const localhost = "127.0.0.1"

func hostPort(port int) string { return net.JoinHostPort(localhost, strconv.Itoa(port)) }

// ports are the ports of one server.
type ports struct {
	frontend, webUI, history, matching, worker int
}

// portPicker finds free ports and holds them until release, so that it never gives one out twice.
type portPicker struct {
	next int
	held []net.Listener
}

// newPortPicker starts at a place that depends on the directory: servers of different directories rarely compete.
func newPortPicker(dir string) *portPicker {
	h := fnv.New32a()
	_, _ = h.Write([]byte(dir))
	return &portPicker{next: firstPort + int(h.Sum32()%(lastPort-firstPort+1))}
}

// take holds one given port.
func (p *portPicker) take(port int) error {
	l, err := net.Listen("tcp", hostPort(port)) //nolint:noctx // binding to loopback does not wait
	if err != nil {
		return err
	}
	p.held = append(p.held, l)
	return nil
}

// free holds any free port.
func (p *portPicker) free() (int, error) {
	for range lastPort - firstPort + 1 {
		port := p.next
		if p.next++; p.next > lastPort {
			p.next = firstPort
		}
		if p.take(port) == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port on %s between %d and %d", localhost, firstPort, lastPort)
}

// pick holds the wanted port, else the remembered one if it is free, else any free one.
func (p *portPicker) pick(wanted, remembered int) (int, error) {
	if wanted != 0 {
		err := p.take(wanted)
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("port %d: %w (choose another one, or none to have a free one chosen): %w", wanted, errPort, err)
		}
		return wanted, err
	}
	if remembered != 0 && p.take(remembered) == nil {
		return remembered, nil
	}
	return p.free()
}

func (p *portPicker) release() {
	for _, l := range p.held {
		_ = l.Close()
	}
	p.held = nil
}
