package devserver

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/stepwell-flows/stepwell"
	uiserver "github.com/temporalio/ui-server/v2/server"
	"go.temporal.io/server/temporal"
)

// instance is a server that runs in this process.
type instance struct {
	dir    string
	db     *database
	server temporal.Server
	webUI  *uiserver.Server
	owner  owner
}

// portTries is how often a start is tried with other ports, when one was taken between its choice and its use.
const portTries = 3

// launch starts the server and the Web UI. The caller MUST hold the lock of the directory. With fixed, the ports of
// that owner are used and no others.
func launch(ctx context.Context, dir string, o stepwell.DevOptions, fixed *owner) (*instance, error) {
	db, rec, err := openDatabase(ctx, dir)
	if err != nil {
		return nil, err
	}
	if fixed != nil {
		o.Port, o.WebUIPort, o.Headless = fixed.Port, fixed.WebUIPort, fixed.WebUIPort == 0
	}
	for try := 1; ; try++ {
		i, err := launchOn(ctx, dir, db, rec, o)
		if err == nil {
			return i, nil
		}
		if !errors.Is(err, errPort) || try == portTries || o.Port != 0 {
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

	i := &instance{dir: dir, db: db}
	if i.server, err = startServer(ctx, db, p, logger{out: o.Logger, fatal: &fatalError{}}); err != nil {
		return nil, err
	}
	i.owner = owner{PID: os.Getpid(), Address: hostPort(p.frontend), Port: p.frontend, Cluster: db.clusterID}
	if !o.Headless {
		if i.webUI, err = startWebUI(ctx, p.frontend, p.webUI); err != nil {
			i.stop()
			return nil, err
		}
		i.owner.WebUI, i.owner.WebUIPort = "http://"+hostPort(p.webUI), p.webUI
		rec.WebUIPort = p.webUI
	}
	rec.Port = p.frontend
	err = errors.Join(writeJSON(filepath.Join(dir, "server.json"), rec), writeJSON(filepath.Join(dir, "server.owner"), i.owner))
	if err != nil {
		i.stop()
		return nil, err
	}
	return i, nil
}

// stopPatience is how long a stop waits for the server. Whatever it still does is safe in the database.
const stopPatience = 3 * time.Second

func (i *instance) stop() {
	_ = os.Remove(filepath.Join(i.dir, "server.owner"))
	if i.webUI != nil {
		i.webUI.Stop()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = i.server.Stop()
	}()
	select {
	case <-done:
		_ = i.db.checkpoint()
	case <-time.After(stopPatience):
	}
}
