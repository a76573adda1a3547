"""A text that would run a script in a page that doesn't escape it."""

HOSTILE = (
    "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"
    "'\"&\u202e"
)
