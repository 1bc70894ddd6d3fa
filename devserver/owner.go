package devserver

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// owner is the content of server.owner: where the process that holds the lock serves.
type owner struct {
	PID       int    `json:"pid"`
	Address   string `json:"address"`
	WebUI     string `json:"web_ui,omitempty"`
	Port      int    `json:"port"`
	WebUIPort int    `json:"web_ui_port,omitempty"`
	Cluster   string `json:"cluster"`
}

func readOwner(path string) (owner, error) {
	var o owner
	b, err := os.ReadFile(path)
	if err != nil {
		return o, err
	}
	return o, json.Unmarshal(b, &o)
}

// verify asks the server at the owner's address who it is. A foreign program on that port is an error.
func (o owner) verify(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+o.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	info, err := workflowservice.NewWorkflowServiceClient(conn).GetClusterInfo(ctx, &workflowservice.GetClusterInfoRequest{})
	if err != nil {
		return err
	}
	if info.GetClusterId() != o.Cluster {
		return fmt.Errorf("another Temporal server answers on %s", o.Address)
	}
	return nil
}

// writeJSON replaces the file at path atomically. With durable, a power cut does not undo it or leave it empty.
func writeJSON(path string, v any, durable bool) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil && durable {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
