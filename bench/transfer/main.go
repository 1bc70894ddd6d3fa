// Command transfer sends or fetches one file and tells what that took. BenchmarkFile runs it as a process for each
// transfer: one like a worker's, in which nothing else needs memory.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/stepwell-flows/stepwell/artifacts"
)

// transfer is one file on its way.
type transfer struct {
	location              string // of the store, for a File
	endpoint, bucket, key string // of the object, for plain requests
	path                  string
	entries               map[string]artifacts.Entry // what a File was stored as
}

// done is what the program prints.
type done struct {
	Took    time.Duration
	Peak    int64 // bytes of memory, 0 where the system does not tell
	Entries map[string]artifacts.Entry
}

// state is what the activity of a step would load and save.
type state struct{ Content artifacts.File }

func main() {
	var t transfer
	flag.StringVar(&t.location, "store", "", "location of the store, for put-file and save-file")
	flag.StringVar(&t.endpoint, "endpoint", "", "URL of the server, for put-object and get-object")
	flag.StringVar(&t.bucket, "bucket", "", "bucket, for put-object and get-object")
	flag.StringVar(&t.key, "key", "", "key of the object, for put-object and get-object")
	flag.StringVar(&t.path, "path", "", "file to send, or to write")
	entries := flag.String("entries", "null", "what put-file printed, for save-file")
	flag.Parse()

	err := json.Unmarshal([]byte(*entries), &t.entries)
	var d done
	if err == nil {
		d, err = t.do(context.Background(), flag.Arg(0))
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(d)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func (t transfer) do(ctx context.Context, what string) (d done, err error) {
	began := time.Now()
	switch what {
	case "put-file":
		d.Entries, err = t.putFile(ctx)
	case "save-file":
		err = t.saveFile(ctx)
	case "put-object":
		err = t.putObject(ctx)
	case "get-object":
		err = t.getObject(ctx)
	default:
		err = fmt.Errorf("unknown transfer %q (write put-file, save-file, put-object or get-object)", what)
	}
	d.Took = time.Since(began)
	if err == nil {
		d.Peak, err = peakMemory()
	}
	return d, err
}

func (t transfer) putFile(ctx context.Context) (map[string]artifacts.Entry, error) {
	store, schema, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	var s state
	s.Content.SetPath(t.path)
	entries, _, err := schema.Save(ctx, store, &s, nil, artifacts.Snapshot{}, "bench")
	return entries, err
}

func (t transfer) saveFile(ctx context.Context) error {
	store, schema, err := t.open(ctx)
	if err != nil {
		return err
	}
	var s state
	if err := schema.Load(ctx, store, t.entries, &s); err != nil {
		return err
	}
	return s.Content.Save(ctx, t.path)
}

func (t transfer) open(ctx context.Context) (*artifacts.Store, *artifacts.Schema, error) {
	store, err := artifacts.Open(ctx, t.location, artifacts.Options{})
	if err != nil {
		return nil, nil, err
	}
	schema, err := artifacts.SchemaOf(reflect.TypeFor[state]())
	return store, schema, err
}

func (t transfer) putObject(ctx context.Context) error {
	client, err := t.client(ctx)
	if err != nil {
		return err
	}
	f, err := os.Open(t.path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = client.PutObject(ctx, &s3.PutObjectInput{Bucket: &t.bucket, Key: &t.key, Body: f})
	return err
}

func (t transfer) getObject(ctx context.Context) error {
	client, err := t.client(ctx)
	if err != nil {
		return err
	}
	out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &t.bucket, Key: &t.key})
	if err != nil {
		return err
	}
	defer out.Body.Close()
	f, err := os.Create(t.path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, out.Body)
	return errors.Join(err, f.Close())
}

// client is the AWS SDK's as it comes.
func (t transfer) client(ctx context.Context) (*s3.Client, error) {
	settings, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	return s3.NewFromConfig(settings, func(o *s3.Options) {
		o.BaseEndpoint = &t.endpoint
		o.UsePathStyle = true
	}), nil
}

// peakMemory is the most memory that this process has had resident. Linux tells it here; elsewhere nothing tells it of
// this process alone, without the one that started it.
func peakMemory() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10, nil
		}
	}
	return 0, errors.New("no VmHWM in /proc/self/status")
}
