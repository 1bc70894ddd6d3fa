package activities

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Secrets that are known by how they look. Each pattern is only tried on a text that has one of its cues, because matching is slow
// beside looking for a word.
var (
	knownKeys = regexp.MustCompile(`\b(?:AKIA|ASIA)[0-9A-Z]{16}\b` + // AWS
		`|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}` +
		`|\bxox[abeoprs]-[\w-]{10,}|\bsk-[\w-]{20,}|\bAIza[\w-]{30,}` +
		`|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*`) // a JSON web token
	keyCues = []string{"AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "sk-", "AIza", "eyJ"}

	privateKey = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)`)

	bearer        = regexp.MustCompile(`(?i)\b(bearer[ \t]+)([\w.~+/-]{6,}=*)`)
	authorization = regexp.MustCompile(`(?i)(authorization["']?\s*[:=]\s*["'\[]*(?:basic|digest|token|apikey|aws4-hmac-sha256)\s+)([^\r\n"']+)`)

	// userInfo is the password in a URL. It has no end before the last @ of the host's part.
	userInfo = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^\s/:@?#"'<>]*:)([^\s/"'<>]+)@`)

	// assigned is a value behind a name that says what it is: password=x, "api_key": "x", --token x is not.
	assigned = regexp.MustCompile(`(?i)([\w.-]*(?:secret|token|passw(?:or)?d|passphrase|(?:api|access|account|auth|private|signing|encryption)[_-]?key)[\w-]*)(\\?["']?\s*[:=]\s*)` +
		`(\\?"(?:[^"\\]|\\[^"])*\\?"|'[^']*'|[^\s"',;&)}\]]+)`)
	assignedCues = []string{"secret", "token", "passw", "passphrase"}
	keyWordsCues = []string{"api", "access", "account", "auth", "private", "signing", "encryption"} // before a key

	// signed is what lets anybody use a URL that was signed.
	signed = regexp.MustCompile(`(?i)([?&](?:x-amz-signature|x-amz-security-token|x-amz-credential|x-goog-signature|x-goog-credential|signature|sig)=)[^&\s"'<>]+`)
)

// hideKnown hides what looks like a secret.
func hideKnown(s string) string {
	if containsAny(s, keyCues) {
		s = knownKeys.ReplaceAllLiteralString(s, hidden)
	}
	if strings.Contains(s, "PRIVATE KEY") {
		s = privateKey.ReplaceAllLiteralString(s, hidden)
	}
	if strings.Contains(s, "://") && strings.Contains(s, "@") {
		s = userInfo.ReplaceAllString(s, "${1}"+hidden+"@")
	}
	lower := strings.ToLower(s)
	if strings.Contains(lower, "sig") || strings.Contains(lower, "x-") {
		s = signed.ReplaceAllString(s, "${1}"+hidden)
	}
	if strings.Contains(lower, "bearer") {
		s = replace(bearer, s, func(m []string) string {
			if !strings.ContainsFunc(m[2], func(r rune) bool { return r < 'a' || r > 'z' }) {
				return m[0] // a word
			}
			return m[1] + hidden
		})
	}
	if strings.Contains(lower, "authorization") {
		s = authorization.ReplaceAllString(s, "${1}"+hidden)
	}
	if strings.ContainsAny(s, "=:") && (containsAny(lower, assignedCues) || strings.Contains(lower, "key") && containsAny(lower, keyWordsCues)) {
		s = replace(assigned, s, func(m []string) string { return m[1] + m[2] + assignedValue(m[1], m[2], m[3]) })
	}
	return s
}

// assignedValue hides a value unless it is more likely to be prose or a count: "unexpected token: EOF", "tokens=512".
func assignedValue(name, sep, value string) string {
	open := value[:len(value)-len(strings.TrimLeft(value, `\"'`))]
	end := value[len(strings.TrimRight(value, `\"'`)):]
	if open == "" {
		end = ""
	}
	inner := strings.TrimSuffix(strings.TrimPrefix(value, open), end)
	number := strings.IndexFunc(inner, func(r rune) bool { return (r < '0' || r > '9') && r != '.' }) < 0
	certain := strings.Contains(sep, "=") || strings.ContainsAny(sep, `"'`) || open != ""
	lower := strings.ToLower(name)
	password := strings.Contains(lower, "passw") || strings.Contains(lower, "passphrase")
	switch {
	case !saysSecret(name), strings.Contains(inner, hidden), inner == "", number && !password:
		return value
	case inner == "true", inner == "false", inner == "null", inner == "nil":
		return value
	case !certain && !password && !strings.ContainsAny(inner, "0123456789"):
		return value
	}
	return open + hidden + end
}

// saysSecret reports whether the name of a variable, an attribute or a field says that its value is a secret: a word of it is
// secret, token, password, credential or the like, or key after a word like api. Names of what only tells about a secret, like
// TOKEN_FILE, do not.
func saysSecret(name string) bool {
	if !containsAny(strings.ToLower(name), nameCues) {
		return false
	}
	words := wordsOf(name)
	if len(words) == 0 || slices.Contains(aboutWords, words[len(words)-1]) {
		return false
	}
	for i, w := range words {
		switch {
		case slices.Contains(secretWords, w), w == "pass" && len(words) > 1:
			return true
		case w == "key" && i > 0 && slices.Contains(keyWords, words[i-1]):
			return true
		}
	}
	return false
}

// settingSaysSecret is saysSecret for environment variables, of which the last word may also be just key.
func settingSaysSecret(name string) bool {
	words := wordsOf(name)
	n := len(words)
	return saysSecret(name) || n > 0 && words[n-1] == "key" && !slices.Contains(words, "public")
}

var (
	nameCues    = []string{"secret", "token", "pass", "credential", "key", "authorization"}
	secretWords = []string{"secret", "secrets", "token", "password", "passwd", "passphrase", "credential", "credentials", "apikey", "secretkey", "accesskey", "privatekey", "authkey", "authorization"}
	keyWords    = []string{"api", "access", "account", "auth", "private", "secret", "signing", "encryption", "master", "license", "service", "ssh", "storage", "app", "application"}
	aboutWords  = []string{"id", "file", "path", "dir", "name", "type", "url", "uri", "arn", "count", "length", "len", "size", "limit", "ttl", "expiry", "expires", "version", "policy"}
)

// wordsOf splits a name like DB_PASSWORD, db-password or dbPassword into words in lower case.
func wordsOf(name string) []string {
	var words []string
	var word []rune
	end := func() {
		if len(word) > 0 {
			words = append(words, strings.ToLower(string(word)))
			word = word[:0]
		}
	}
	runes := []rune(name)
	for i, r := range runes {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			end()
			continue
		case unicode.IsUpper(r) && i > 0 && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsUpper(runes[i-1]) && unicode.IsLower(runes[i+1])):
			end()
		}
		word = append(word, r)
	}
	end()
	return words
}

func containsAny(s string, words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(s, w) })
}

// replace replaces what a pattern matches by what f makes of the match and its groups.
func replace(p *regexp.Regexp, s string, f func(groups []string) string) string {
	var b strings.Builder
	last := 0
	for _, at := range p.FindAllStringSubmatchIndex(s, -1) {
		groups := make([]string, len(at)/2)
		for i := range groups {
			if at[2*i] >= 0 {
				groups[i] = s[at[2*i]:at[2*i+1]]
			}
		}
		b.WriteString(s[last:at[0]])
		b.WriteString(f(groups))
		last = at[1]
	}
	if last == 0 {
		return s
	}
	return b.String() + s[last:]
}
