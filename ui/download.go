package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/runs"
)

// maxJSON is the largest structured artifact that is turned into JSON, which takes several times its size of memory.
const maxJSON = 16 << 20

// form says what a download of an artifact is: content that is bytes already, JSON, or for large values the stored form.
func form(e artifacts.Entry) string {
	switch {
	case e.Name != "":
		return "file"
	case e.Codec == "string":
		return "text"
	case e.Codec == "bytes":
		return "bytes"
	case e.Size <= maxJSON:
		return "JSON"
	}
	return e.Codec
}

// download gives an artifact's content. It is never shown: a file that a step made is not a page of this server.
func (q *request) download() error {
	_, task, err := q.findTask()
	if err != nil {
		return err
	}
	name := q.PathValue("name")
	e, err := task.Artifact(name)
	if err != nil {
		return err
	}
	if form(e) == "JSON" {
		v, err := runs.LoadJSON(q.Context(), task, name)
		if err != nil {
			return err
		}
		b, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return fmt.Errorf("artifact %q as JSON: %w", name, err)
		}
		q.attach(name+".json", int64(len(b)))
		return q.copy(bytes.NewReader(b))
	}
	e, content, err := task.Open(q.Context(), name)
	if err != nil {
		return err
	}
	defer content.Close()
	q.attach(fileName(name, e), e.Size)
	return q.copy(content)
}

// fileName is what a download is called.
func fileName(name string, e artifacts.Entry) string {
	switch {
	case e.Name != "":
		return path.Base(strings.ReplaceAll(e.Name, "\\", "/"))
	case e.Codec == "string":
		return name + ".txt"
	case e.Codec == "bytes":
		return name + ".bin"
	}
	return name + "." + e.Codec
}

// rawLog gives the log of all attempts as it is stored.
func (q *request) rawLog() error {
	_, task, err := q.findTask()
	if err != nil {
		return err
	}
	logs, err := task.Logs(q.Context())
	if err != nil {
		return err
	}
	var raw [][]byte
	for _, l := range logs {
		raw = append(raw, l.Raw)
	}
	b := slices.Concat(raw...)
	q.attach(task.Name()+".log", int64(len(b)))
	return q.copy(bytes.NewReader(b))
}

// attach sets the header of a download. Its type is one that no browser shows or runs.
func (q *request) attach(name string, size int64) {
	name = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || strings.ContainsRune(`/\"`, r) {
			return '_'
		}
		return r
	}, text(name))
	h := q.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	h.Set("Content-Length", strconv.FormatInt(size, 10))
}

// copy sends the content. One that turns out to be damaged ends the connection, or it would look whole.
func (q *request) copy(content io.Reader) error {
	q.w.WriteHeader(http.StatusOK)
	if q.Method == http.MethodHead {
		return nil
	}
	if _, err := io.Copy(q.w, content); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}
