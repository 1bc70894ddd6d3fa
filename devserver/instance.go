package devserver

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"github.com/stepwell-flows/stepwell"
	"go.temporal.io/server/temporal"
)

// instance is a server that runs in this process.
type instance struct {
	dir    string
	db     *database
	log    logger
	server temporal.Server
	webUI  *webUI // nil when headless
	owner  owner
}

// portTries is how often a start is tried with other ports, when one was taken between its choice and its use.
const portTries = 3

// launch starts the server and the Web UI. The caller MUST hold the lock of the directory. With known, clients know
// that owner's address already, and no other will do.
func launch(ctx context.Context, dir string, o stepwell.DevOptions, known *owner) (*instance, error) {
	// What a killed process left behind: nobody should take its address for ours.
	if err := os.Remove(filepath.Join(dir, "server.owner")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	db, rec, err := openDatabase(ctx, dir)
	if err != nil {
		return nil, err
	}
	if known != nil {
		// A run must not wait for the sake of a Web UI whose port is taken: that one may move.
		o.Port, o.WebUIPort, o.Headless = known.Port, 0, known.WebUIPort == 0
		rec.WebUIPort = known.WebUIPort
	}
	for try := 1; ; try++ {
		i, err := launchOn(ctx, dir, db, rec, o)
		if err == nil {
			return i, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, errPort) || try == portTries {
			return nil, err
		}
	}
}

func launchOn(ctx context.Context, dir string, db *database, rec record, o stepwell.DevOptions) (*instance, error) {
	picker := newPortPicker(dir)
	defer picker.release()
	var p ports
	var err error
	if p.frontend, err = picker.pick(o.Port, rec.Port); err != nil {
		return nil, err
	}
	if !o.Headless {
		if p.webUI, err = picker.pick(o.WebUIPort, rec.WebUIPort); err != nil {
			return nil, err
		}
	}
	for _, internal := range []*int{&p.history, &p.matching, &p.worker} {
		if *internal, err = picker.free(); err != nil {
			return nil, err
		}
	}
	picker.release()

	i := &instance{dir: dir, db: db, log: newLogger(o.Logger)}
	if !o.Headless {
		// First, because it can hold its port without serving on it yet.
		if i.webUI, err = listenWebUI(p.webUI); err != nil {
			return nil, err
		}
	}
	if i.server, err = startServer(ctx, db, p, i.log); err != nil {
		i.webUI.stop()
		return nil, err
	}
	i.owner = owner{PID: os.Getpid(), Address: hostPort(p.frontend), Port: p.frontend, Cluster: db.clusterID}
	used := rec
	used.Port = p.frontend
	if i.webUI != nil {
		err = i.webUI.serve(p.frontend)
		i.owner.WebUI, i.owner.WebUIPort = "http://"+hostPort(p.webUI), p.webUI
		used.WebUIPort = p.webUI
	}
	if err == nil && used != rec {
		err = used.write(dir)
	}
	if err == nil {
		err = writeJSON(filepath.Join(dir, "server.owner"), i.owner, false)
	}
	if err != nil {
		i.stop()
		return nil, err
	}
	return i, nil
}

func (i *instance) stop() {
	i.log.silence()
	_ = os.Remove(filepath.Join(i.dir, "server.owner"))
	i.webUI.stop()
	if stopServer(i.server) {
		_ = i.db.checkpoint()
	}
}
