"""Lua scripts on fakeredis, at a fraction of their cost.

fakeredis compiles a script on every call, looks through all Lua globals on every ``redis.call``, and collects Lua's
garbage after every script.  Here scripts are compiled once, a metatable rejects new globals, and Lua collects by
itself.  As in Redis, a script cannot reach files, programs or Python.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Any

from fakeredis._commands import COMMANDS_WITH_SUB
from fakeredis._helpers import SimpleError
from fakeredis._msgs import NO_MATCHING_SCRIPT_MSG
from fakeredis.commands_mixins import scripting_mixin

_SEAL = """
for _, name in ipairs({'python', 'io', 'package', 'require', 'module', 'dofile', 'loadfile', 'debug', 'print'}) do
  _G[name] = nil
end
os = {clock = os.clock}
setmetatable(_G, {__newindex = function(_, name)
  error("Script attempted to create global variable '" .. tostring(name) .. "'", 2)
end})
"""


class FastScripts(scripting_mixin.ScriptingCommandsMixin):
    """Goes in front of a socket class of fakeredis."""

    def eval(self, script: bytes, numkeys: int, *keys_and_args: bytes) -> Any:
        digest = sha1(script, usedforsecurity=False).hexdigest().encode()
        self._server.script_cache[digest] = script
        return self._run_script(digest, numkeys, keys_and_args)

    def evalsha(self, sha1: bytes, numkeys: int, *keys_and_args: bytes) -> Any:
        return self._run_script(sha1.lower(), numkeys, keys_and_args)

    def _run_script(self, digest: bytes, keys: int, arguments: tuple[bytes, ...]) -> Any:
        if not 0 <= keys <= len(arguments):
            raise SimpleError("ERR Number of keys can't be negative or greater than number of args")
        server: Any = self._server
        script = server.script_cache.get(digest)
        if script is None:
            raise SimpleError(NO_MATCHING_SCRIPT_MSG)
        runtime = self._runtime()
        server._lua_current_socket[0] = self
        server._lua_set_keys_argv(runtime.table_from(arguments[:keys]), runtime.table_from(arguments[keys:]))
        self._script_resp = 2
        try:
            if digest not in server.compiled:
                server.compiled[digest] = runtime.compile(script)
            result = server.compiled[digest]()
        except scripting_mixin.LUA_MODULE.LuaError as error:
            raise SimpleError(f"ERR Error running script (call to f_{digest.decode()}): {error}") from None
        finally:
            self._script_resp = None
        return self._convert_lua_result(result, nested=False)

    def _runtime(self) -> Any:
        """Return the Lua of the server, sealed at its first use."""
        server: Any = self._server
        runtime = self._get_server_runtime(server)
        if not hasattr(server, "compiled"):
            server.compiled = {}
            runtime.execute(_SEAL)
        return runtime

    def _lua_redis_call(self, lua_runtime: Any, expected_globals: set[Any], op: bytes, *args: Any) -> Any:
        name = op.decode("utf-8", "replace").lower()
        values = [scripting_mixin._convert_redis_arg(arg) for arg in args]
        if name in COMMANDS_WITH_SUB and values:
            name = f"{name} {values.pop(0).decode('utf-8', 'replace').lower()}"
        function, signature = self._name_to_func(name)
        if function is None:
            raise SimpleError(f"ERR {name} is not supported")
        return self._convert_redis_result(lua_runtime, self._run_command(function, signature, values, True))
