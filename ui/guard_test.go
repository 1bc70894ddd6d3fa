package ui_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/ui"
)

func TestOnlyThisMachinesNamesAreAnswered(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for host, want := range map[string]int{
		"127.0.0.1:8283": http.StatusOK, "localhost:8283": http.StatusOK, "LOCALHOST": http.StatusOK, "[::1]:8283": http.StatusOK, "127.9.9.9": http.StatusOK,
		"evil.example:8283": http.StatusMisdirectedRequest, "127.0.0.1.evil.example": http.StatusMisdirectedRequest, "": http.StatusMisdirectedRequest,
		"0.0.0.0:8283": http.StatusMisdirectedRequest, "192.168.1.7:8283": http.StatusMisdirectedRequest, "localhost.evil.example": http.StatusMisdirectedRequest,
	} {
		require.Equal(t, want, s.get("/", func(r *http.Request) { r.Host = host }).Code, "host %q", host)
	}
	s.pages = ui.Handler(ui.Fixed(runs.New(s.store, nil), ""), ui.Options{Hosts: []string{"Box.internal"}})
	require.Equal(t, http.StatusOK, s.get("/", func(r *http.Request) { r.Host = "box.internal:80" }).Code)
}

func TestOtherSitesMayLinkButNotRead(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for name, c := range map[string]struct {
		header map[string]string
		want   int
	}{
		"typed":                      {map[string]string{"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, http.StatusOK},
		"followed within":            {map[string]string{"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}, http.StatusOK},
		"followed from the Web UI":   {map[string]string{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, http.StatusOK},
		"followed from elsewhere":    {map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, http.StatusOK},
		"its own script":             {map[string]string{"Origin": "http://127.0.0.1:8283", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, http.StatusOK},
		"a script of another port":   {map[string]string{"Origin": "http://127.0.0.1:9999", "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, http.StatusForbidden},
		"a script of another site":   {map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, http.StatusForbidden},
		"a script without an origin": {map[string]string{"Origin": "null"}, http.StatusForbidden},
		"an image elsewhere":         {map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, http.StatusForbidden},
		"a frame elsewhere":          {map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, http.StatusForbidden},
	} {
		got := s.get("/runs/"+flowName, func(r *http.Request) {
			for k, v := range c.header {
				r.Header.Set(k, v)
			}
		})
		require.Equal(t, c.want, got.Code, name)
	}
}

func TestNothingIsChanged(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, http.MethodConnect} {
		got := s.get("/runs/"+flowName+"/"+completed, func(r *http.Request) { r.Method = method })
		require.Equal(t, http.StatusMethodNotAllowed, got.Code, method)
	}
	require.Equal(t, http.StatusOK, s.get("/", func(r *http.Request) { r.Method = http.MethodHead }).Code)
}

func TestEveryAnswerHasAPolicy(t *testing.T) {
	t.Parallel()
	s := setup(t)
	task := "/runs/" + flowName + "/" + completed + "/tasks/load"
	for _, path := range []string{
		"/", "/nowhere", "/runs/" + flowName, "/runs/" + flowName + "/" + completed, task, task + "/artifacts", task + "/artifacts/Data", task + "/logs",
		task + "/log", task + "/cards/default", "/runs/..%2f..",
	} {
		h := s.get(path).Header()
		require.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'", path)
		require.Contains(t, h.Get("Content-Security-Policy"), "frame-ancestors", path)
		require.NotContains(t, h.Get("Content-Security-Policy"), "unsafe-eval", path)
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), path)
		require.Equal(t, "no-referrer", h.Get("Referrer-Policy"), path)
		require.Equal(t, "same-origin", h.Get("Cross-Origin-Resource-Policy"), path)
	}
}

// TestNoWayOutOfTheStore asks for a file beside the store in every part of every address.
func TestNoWayOutOfTheStore(t *testing.T) {
	t.Parallel()
	s := setup(t)
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(s.dir), "secret.html"), []byte("TOP SECRET"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(s.dir), "run.json"), []byte("TOP SECRET"), 0o600))
	for _, address := range []string{
		"/runs/X", "/runs/X/" + completed, "/runs/" + flowName + "/X", "/runs/" + flowName + "/" + completed + "/tasks/X",
		"/runs/" + flowName + "/" + completed + "/tasks/load/artifacts/X", "/runs/" + flowName + "/" + completed + "/tasks/load/cards/X",
		"/runs/" + flowName + "/" + completed + "/foreach/X",
		"/runs/" + flowName + "/" + completed + "/steps/X", "/runs/" + flowName + "?before=X", "/X",
	} {
		for _, part := range []string{"..", "../..", "../../secret", "../secret", "../../../../../secret", "..\\secret", ".", "/etc/passwd", "a\x00b", "%2e%2e", "..%00", strings.Repeat("a", 4000)} {
			path := strings.Replace(address, "X", url.PathEscape(part), 1)
			got := s.get(path)
			require.NotContains(t, got.Body.String(), "TOP SECRET", path)
			require.NotContains(t, got.Body.String(), "root:", path)
			require.NotEqual(t, http.StatusInternalServerError, got.Code, "%s: %s", path, got.Body)
		}
	}
}

func TestADownloadIsNeverAPage(t *testing.T) {
	t.Parallel()
	s := setup(t)
	base := "/runs/" + flowName + "/" + completed + "/tasks/load/artifacts/"
	for name, want := range map[string]struct{ file, content string }{
		"Data":   {"page.html", "<script>alert(1)</script>"},
		"Text":   {"Text.txt", evil},
		"Scores": {"Scores.json", "{\n  \"auc\": 0.5\n}"},
		"Rows":   {"Rows.json", "3"},
	} {
		got := s.get(base + name)
		require.Equal(t, http.StatusOK, got.Code)
		require.Equal(t, want.content, got.Body.String())
		require.Equal(t, "application/octet-stream", got.Header().Get("Content-Type"))
		require.Contains(t, got.Header().Get("Content-Disposition"), "attachment")
		require.Contains(t, got.Header().Get("Content-Disposition"), want.file)
		require.Contains(t, got.Header().Get("Content-Security-Policy"), "sandbox")
	}
	require.Equal(t, http.StatusNotFound, s.get(base+"None").Code)
	got := s.get("/runs/" + flowName + "/" + completed + "/tasks/load/log")
	require.Equal(t, 2, strings.Count(got.Body.String(), "\n"))
	require.Contains(t, got.Header().Get("Content-Disposition"), "load.log")
}

// TestADamagedArtifactIsNoDownload has one whose content changed in the store.
func TestADamagedArtifactIsNoDownload(t *testing.T) {
	t.Parallel()
	s := setup(t)
	run, err := runs.New(s.store, nil).Run(t.Context(), flowName, completed)
	require.NoError(t, err)
	task, err := run.Task(t.Context(), "load")
	require.NoError(t, err)
	e, err := task.Artifact("Large")
	require.NoError(t, err)
	damaged := false
	require.NoError(t, filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(path, strings.TrimPrefix(e.Digest.String(), "sha256:")) {
			damaged = true
			return os.WriteFile(path, []byte("damaged"), 0o600)
		}
		return err
	}))
	require.True(t, damaged)
	store, err := artifacts.Open(t.Context(), s.dir, artifacts.Options{}) // the one that wrote it remembers it
	require.NoError(t, err)
	server := httptest.NewServer(ui.Handler(ui.Fixed(runs.New(store, nil), ""), ui.Options{}))
	defer server.Close()
	resp, err := server.Client().Get(server.URL + "/runs/" + flowName + "/" + completed + "/tasks/load/artifacts/Large")
	if err == nil {
		defer resp.Body.Close()
		require.NotEqual(t, http.StatusOK, resp.StatusCode)
	}
	require.Contains(t, s.page("/runs/"+flowName+"/"+completed+"/tasks/load/artifacts"), "Large", "the others are listed all the same")
}
