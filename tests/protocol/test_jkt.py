"""The suite that every Jupyter kernel is measured by, with all its parts switched on."""

import unittest

import jupyter_kernel_test as jkt


class KernelTests(jkt.KernelTests):
    kernel_name = "jaeda"
    language_name = "jaeda"
    file_extension = ".jaeda"
    code_hello_world = "!echo hello, world"
    code_stderr = "%%bash\necho oops >&2"
    completion_samples = [
        {"text": "%lsm", "matches": {"%lsmagic"}},
        {"text": "%generate --max-new-t", "matches": {"--max-new-tokens"}},
    ]
    complete_code_samples = ["%lsmagic", "!ls", "a = 1", "What is this?"]
    incomplete_code_samples = ["%%generate", "a = [1,"]
    invalid_code_samples = []
    code_page_something = "%generate?"
    code_generate_error = "%no_such_magic_at_all"
    code_execute_result = [{"code": "answer = 6\nanswer", "result": "6"}, {"code": "answer = 7\nanswer", "result": "7"}]
    code_display_data = [{"code": "%lsmagic", "mime": "text/html"}, {"code": "%lsmagic", "mime": "text/markdown"}]
    code_history_pattern = "answer = 6*"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "%generate"
    code_clear_output = "%clear"


class IopubWelcome(jkt.IopubWelcomeTests):
    kernel_name = "jaeda"
    support_iopub_welcome = True


if __name__ == "__main__":
    unittest.main()
