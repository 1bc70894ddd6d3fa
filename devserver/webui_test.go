package devserver_test

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
)

// request sends one request to the Web UI. Header Host sets the name that it is called by.
func request(t testing.TB, c *http.Client, method, url string, header http.Header) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(`{"workflowType": {"name": "X"}}`))
	require.NoError(t, err)
	r.Header = header.Clone()
	r.Host = header.Get("Host")
	r.Header.Del("Host")
	response, err := c.Do(r)
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	b, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, response.Header, string(b)
}

func TestWebUI(t *testing.T) {
	t.Parallel()
	s := start(t, stepwell.DevOptions{Dir: t.TempDir()})
	c := dial(t, s)
	path := filepath.Join(t.TempDir(), "steps")
	work(t, c)
	r := begin(t, c, path, 1)
	finished(t, r, path, 1)

	get := func(path string) string {
		status, _, body := request(t, http.DefaultClient, http.MethodGet, s.WebUI+path, http.Header{})
		require.Equal(t, http.StatusOK, status, path)
		return strings.ReplaceAll(body, `": "`, `":"`)
	}
	for _, page := range []string{"/", "/namespaces/default/workflows", "/namespaces/default/workflows/" + r.GetID()} {
		require.Contains(t, get(page), "<!doctype html>", page)
	}
	require.Contains(t, get("/render?content=**bold**"), "<strong>bold</strong>")
	var settings struct {
		DefaultNamespace    string
		DisableNewsFetch    bool
		DisableWriteActions bool
		Codec               struct{ Endpoint string }
	}
	require.NoError(t, json.Unmarshal([]byte(get("/api/v1/settings")), &settings))
	require.Equal(t, "default", settings.DefaultNamespace)
	require.True(t, settings.DisableNewsFetch)
	require.False(t, settings.DisableWriteActions)
	require.Contains(t, get("/api/v1/namespaces"), `"name":"default"`)
	require.Contains(t, get("/api/v1/namespaces/default/workflows/"+r.GetID()), `"WORKFLOW_EXECUTION_STATUS_COMPLETED"`)
	script, _, _ := strings.Cut(strings.SplitN(get("/"), `href="`, 2)[1], `"`)
	require.NotEmpty(t, get("/"+strings.TrimLeft(script, "./")))
}

// A web page of somebody else that the user looks at must not reach the server through the user's browser.
func TestWebUIAnswersToItsOwnPagesOnly(t *testing.T) {
	t.Parallel()
	s := start(t, stepwell.DevOptions{Dir: t.TempDir()})
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.WebUI, "http://"))
	require.NoError(t, err)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	browser := &http.Client{Jar: jar}
	_, _, _ = request(t, browser, http.MethodGet, s.WebUI, http.Header{})
	address, err := url.Parse(s.WebUI)
	require.NoError(t, err)
	var token string
	for _, cookie := range jar.Cookies(address) {
		token = cookie.Value
	}
	require.NotEmpty(t, token)
	const (
		workflows = "/api/v1/namespaces/default/workflows"
		newOne    = workflows + "/id"
		rawFile   = workflows + "/id/runs/id/history.json"
	)
	for name, c := range map[string]struct {
		method, path string
		header       http.Header
		status       int
	}{
		"by address":          {http.MethodGet, workflows, http.Header{"Host": {"127.0.0.1:" + port}}, http.StatusOK},
		"by name":             {http.MethodGet, workflows, http.Header{"Host": {"localhost:" + port}}, http.StatusOK},
		"a name made to fit":  {http.MethodGet, workflows, http.Header{"Host": {"evil.example:" + port}}, http.StatusForbidden},
		"without a port":      {http.MethodGet, workflows, http.Header{"Host": {"evil.example"}}, http.StatusForbidden},
		"a name like ours":    {http.MethodGet, "/", http.Header{"Host": {"localhost.evil.example:" + port}}, http.StatusForbidden},
		"raw history":         {http.MethodGet, rawFile, http.Header{"Host": {"evil.example:" + port}}, http.StatusForbidden},
		"settings":            {http.MethodGet, "/api/v1/settings", http.Header{"Host": {"evil.example:" + port}}, http.StatusForbidden},
		"write by that name":  {http.MethodPost, newOne, http.Header{"Host": {"evil.example:" + port}, "Sec-Fetch-Site": {"same-origin"}}, http.StatusForbidden},
		"write across sites":  {http.MethodPost, newOne, http.Header{"Origin": {"http://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}, http.StatusForbidden},
		"write, token stolen": {http.MethodPost, newOne, http.Header{"Origin": {"http://evil.example"}, "Sec-Fetch-Site": {"cross-site"}, "X-Csrf-Token": {token}}, http.StatusForbidden},
		"another port here":   {http.MethodPost, newOne, http.Header{"Origin": {"http://localhost:1"}, "Sec-Fetch-Site": {"same-site"}}, http.StatusBadRequest},
		"an old browser":      {http.MethodPost, newOne, http.Header{"Origin": {"http://evil.example"}}, http.StatusBadRequest},
	} {
		status, header, body := request(t, browser, c.method, s.WebUI+c.path, c.header)
		require.Equal(t, c.status, status, "%s: %s", name, body)
		require.Empty(t, header.Get("Access-Control-Allow-Origin"), name)
	}
	status, header, _ := request(t, browser, http.MethodOptions, s.WebUI+newOne, http.Header{"Origin": {"http://evil.example"}})
	require.GreaterOrEqual(t, status, 200)
	require.Empty(t, header.Get("Access-Control-Allow-Origin"))
	require.Zero(t, count(t, dial(t, s), ""), "nothing was started")
}

// Nothing listens on an address that other machines can reach.
func TestBoundToLoopbackOnly(t *testing.T) {
	t.Parallel()
	p := spawn(t, childOptions{Dir: t.TempDir()})
	ports := []string{strings.Split(p.server.Address, ":")[1], strings.TrimPrefix(p.server.WebUI, "http://127.0.0.1:")}
	sockets := listening(t, p.cmd.Process.Pid)
	if sockets != nil {
		require.Len(t, sockets, 5, "frontend, history, matching, worker and Web UI")
		for _, address := range sockets {
			host, port, err := net.SplitHostPort(address)
			require.NoError(t, err)
			require.Equal(t, "127.0.0.1", host)
			ports = append(ports, port)
		}
	}
	addresses, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range addresses {
		n, ok := a.(*net.IPNet)
		if !ok || n.IP.String() == "127.0.0.1" || n.IP.IsLinkLocalUnicast() {
			continue
		}
		for _, port := range ports {
			require.False(t, answers(net.JoinHostPort(n.IP.String(), port)), "%s:%s", n.IP, port)
		}
	}
}

// listening are the addresses that a process listens on. It returns nil where the system does not tell.
func listening(t testing.TB, pid int) []string {
	t.Helper()
	inodes := make(map[string]bool)
	descriptors, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "fd", "*"))
	for _, d := range descriptors {
		if target, err := os.Readlink(d); err == nil {
			if inode, ok := strings.CutPrefix(target, "socket:["); ok {
				inodes[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	var found []string
	for _, table := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "net", table))
		if err != nil {
			return nil
		}
		for line := range strings.Lines(string(b)) {
			// sl, local address, remote address, state (0A listens), queues, timer, retransmits, uid, timeout, inode
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == "0A" && inodes[f[9]] {
				found = append(found, parseSocket(t, f[1]))
			}
		}
	}
	return found
}

// parseSocket reads an address such as 0100007F:1F90, whose words are in the byte order of a little-endian machine.
func parseSocket(t testing.TB, s string) string {
	t.Helper()
	host, port, ok := strings.Cut(s, ":")
	require.True(t, ok, s)
	ip, err := hex.DecodeString(host)
	require.NoError(t, err)
	for word := range slices.Chunk(ip, 4) {
		slices.Reverse(word)
	}
	n, err := strconv.ParseUint(port, 16, 16)
	require.NoError(t, err)
	return net.JoinHostPort(net.IP(ip).String(), strconv.FormatUint(n, 10))
}
